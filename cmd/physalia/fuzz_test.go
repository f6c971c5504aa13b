package main

import (
	"os"
	"path/filepath"
	"testing"

	"physalia/cell"
)

// FuzzConfig reads mutated configuration files as `physalia server` would, to its last flag: it ends with an error of usage, or
// with settings.
func FuzzConfig(f *testing.F) {
	f.Add([]byte("colony = \"c\"\n[server]\nname = \"s1\"\njoin = [\"a:1\", \"b:2\"]\ncapacity = 7\n"))
	f.Add([]byte("[server]\nlisten_peer = 5\n"))
	f.Add([]byte("[[[[[[[[[["))
	name := filepath.Join(f.TempDir(), "physalia.toml")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		a := &app{config: name, lookupEnv: func(string) (string, bool) { return "", false }}
		root := a.command()
		cmd, _, err := root.Find([]string{"server"})
		if err != nil {
			t.Fatal(err)
		}
		a.config = name // the flags have set it to its default
		if err := a.settle(cmd); err != nil && cell.KindOf(err) != cell.Invalid {
			t.Fatal(err)
		}
	})
}

// FuzzTxn reads mutated transactions in both forms; what is accepted can be shown in the other tests' way, and nothing falls over.
func FuzzTxn(f *testing.F) {
	f.Add([]byte(txnAsText))
	f.Add([]byte(`{"if": [{"key": "a", "is": "exists"}], "then": [{"op": "put", "key": "k", "value": 1e999999}]}`))
	f.Add([]byte(`then put k 99999999999999999999999999999999999999`))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, parse := range []func([]byte) (cell.Txn, error){parseTxnText, parseTxnJSON} {
			if txn, err := parse(text); err == nil && len(txn.Then)+len(txn.Else) > len(text) {
				t.Fatalf("%d bytes made %d operations", len(text), len(txn.Then)+len(txn.Else))
			}
		}
	})
}
