package wire

import (
	"bytes"
	"testing"
)

// FuzzMessages decodes bytes as any one of all messages: what is accepted is a fixed point of decoding and encoding. The first
// argument chooses the message, so that each of them has its own seeds.
func FuzzMessages(f *testing.F) {
	all := samples()
	for i, s := range all {
		f.Add(uint8(i), s.full.Append(nil))
		f.Add(uint8(i), s.empty().Append(nil))
		f.Add(uint8(i), []byte{0xdd, 0xff, 0xff, 0xff, 0xff})
	}
	f.Fuzz(func(t *testing.T, which uint8, input []byte) {
		s := all[int(which)%len(all)]
		once, err := s.again(input)
		if err != nil {
			return
		}
		twice, err := s.again(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%s: accepted % x\nencoded % x\nthen    % x, %v", s.name, input, once, twice, err)
		}
	})
}
