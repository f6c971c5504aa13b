package machine

import (
	"fmt"
	"strings"
	"testing"

	"physalia/cell"
	"physalia/internal/wire"
)

// putCommands returns n commands, each one put of a 64-byte value to one of the given number of keys.
func putCommands(n, keys int) [][]byte {
	value := cell.String(strings.Repeat("v", 64))
	commands := make([][]byte, n)
	for i := range commands {
		c := wire.Command{Request: request(byte(i%7), uint64(i), 0), Txn: put(fmt.Sprintf("key-%05d", i%keys), value)}
		commands[i] = c.Append(nil)
	}
	return commands
}

// full returns a machine with the given number of keys and a full window.
func full(tb testing.TB, keys int) *Machine {
	m := New()
	for _, c := range putCommands(max(keys, 2*cell.WindowMax), keys) {
		if _, err := m.Apply(c); err != nil {
			tb.Fatal(err)
		}
	}
	return m
}

func BenchmarkDecodeCommand(b *testing.B) {
	c := putCommands(1, 1)[0]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.DecodeCommand(c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApplyPut(b *testing.B) {
	for _, keys := range []int{1, 100, 2000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			m := full(b, keys)
			value := cell.String(strings.Repeat("v", 64))
			var names []string
			for i := range keys {
				names = append(names, fmt.Sprintf("key-%05d", i))
			}
			c := wire.Command{}
			ops := make([]cell.Op, 1)
			var encoded []byte
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				ops[0] = cell.Op{Kind: cell.OpPut, Key: names[i%keys], Value: value}
				c.Request = cell.Request{Client: cell.ClientID{1}, Sequence: uint64(1000 + i), Since: m.Revision()}
				c.Txn.Then = ops
				encoded = c.Append(encoded[:0])
				if out, err := m.Apply(encoded); err != nil || out.Err != nil {
					b.Fatal(err, out.Err)
				}
				i++
			}
		})
	}
}

func BenchmarkReadGet(b *testing.B) {
	m := full(b, 100)
	t := cell.Txn{Then: []cell.Op{{Kind: cell.OpGet, Key: "key-00050"}}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Read(&t); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSnapshot(b *testing.B) {
	for _, keys := range []int{3, 100, 2000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			m := full(b, keys)
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				buf = m.Snapshot(buf[:0])
			}
			b.SetBytes(int64(len(buf)))
		})
	}
}

func BenchmarkHash(b *testing.B) {
	m := full(b, 100)
	b.ReportAllocs()
	for b.Loop() {
		m.Hash()
	}
}

func BenchmarkRestore(b *testing.B) {
	state := full(b, 100).Snapshot(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Restore(state); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFill builds a cell with as many keys as fit, in an order that inserts everywhere.
func BenchmarkFill(b *testing.B) {
	const keys = 5900
	var commands [][]byte
	for i := range keys {
		c := wire.Command{Request: request(1, uint64(i), 0), Txn: put(fmt.Sprintf("%d", i*7919%keys), cell.Bool(true))}
		c.Request.Since = cell.Revision(i)
		commands = append(commands, c.Append(nil))
	}
	b.ReportAllocs()
	for b.Loop() {
		m := New()
		for _, c := range commands {
			if out, err := m.Apply(c); err != nil || out.Err != nil {
				b.Fatal(err, out.Err)
			}
		}
	}
}
