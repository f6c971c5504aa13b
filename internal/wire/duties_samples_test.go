package wire

import "testing"

var sampleHolders = []DutyHolder{{Duties: DutyLifecycle, Name: "control-2", Addr: "10.0.0.9:7300"}}

// dutySamples has one sample of every message about duties.
func dutySamples() []sample {
	return []sample{
		of(sampleHolders[0]),
		of(DutiesMoved{Duties: AllDuties, Elsewhere: sampleHolders}),
		of(DialBack{Control: "control-1", Addr: "10.0.0.8:7300", Nonce: [16]byte{1, 2, 3}, Mac: [32]byte{0xff}}),
	}
}

func TestDutiesAreNamed(t *testing.T) {
	for d, want := range map[Duties]string{0: "none", DutyHealth: "health", AllDuties: "lifecycle+discovery+health", 0x80: "none"} {
		if got := d.String(); got != want {
			t.Errorf("%#x: %q, want %q", uint8(d), got, want)
		}
	}
}
