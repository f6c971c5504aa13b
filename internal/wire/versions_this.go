//go:build !nextversion

package wire

// CommandSet is the newest command set that this build understands. Protocol versions are those of ProtocolMin and ProtocolMax.
const CommandSet = CommandSetMin

// Word puts an encoded command into the wording of a command set that it was not made for; there is none.
func Word([]byte, uint32) {}
