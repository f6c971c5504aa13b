//go:build nextversion

package wire

import "strconv"

// ProtocolMax is that of a build from the future.
const ProtocolMax = 2

// nextSet is set by the linker (-X) for builds that are several versions ahead.
var nextSet = "2"

// CommandSet is that of a build from the future, which trials of upgrades run beside this one: its commands say the same, in an
// encoding that this version does not understand.
var CommandSet = func() uint32 {
	n, err := strconv.ParseUint(nextSet, 10, 8)
	if err != nil || n <= CommandSetMin {
		panic("wire: nextSet is " + nextSet)
	}
	return uint32(n)
}()

// Word makes an encoded command one of a command set.
func Word(command []byte, set uint32) { command[1] = byte(set) }
