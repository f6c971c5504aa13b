//go:build !nextversion

package wire

// ProtocolMax is the newest protocol version that this build speaks.
const ProtocolMax = 1

// CommandSet is the newest command set that this build understands.
const CommandSet = CommandSetMin

// Word puts an encoded command into the wording of a command set that it was not made for; there is none.
func Word([]byte, uint32) {}
