package wire

// accessSamples has one sample of every message about who may do what.
func accessSamples() []sample {
	return []sample{
		of(Present{Token: "phy1.AQID", Reason: "ticket 4711"}),
	}
}
