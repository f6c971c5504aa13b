package wire

// accessSamples has one sample of every message about who may do what.
func accessSamples() []sample {
	return []sample{
		of(Present{Token: "phy1.AQID", Reason: "ticket 4711"}),
		of(Invite{Identity: "physalia://eu1/server/b1/red/s1", Life: 3600}),
		of(Invited{Token: "phyj1.AQID", Addr: "10.0.0.5:7305", Expires: 1795348800000}),
		of(Join{Secret: []byte{1, 2, 3}, Request: []byte{0x30, 0x80}}),
		of(Joined{Identity: "physalia://eu1/server/b1/red/s1", Certificate: []byte("c"), Authorities: []byte("a"), Gossip: []byte("g"), Tokens: []byte("t")}),
		of(AuditRequest{Limit: 100}),
		of(AuditPage{Lines: []string{`{"action":"control.pause"}`}, Lost: 3, Off: true}),
	}
}
