package knock

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"physalia/cell"
	"physalia/internal/wire"
)

func key(t testing.TB, b byte) Key {
	t.Helper()
	k, err := NewKey([]byte(strings.Repeat(string(rune('a'+b)), KeyBytesMin) + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var sample = Knock{Server: "s1-k3v9q2xa", Boot: 4, At: 1_800_000_000_000, Nonce: [16]byte{1, 2, 3, 15: 9}}

func TestKnockSurvivesTheWire(t *testing.T) {
	k := key(t, 0)
	b := k.Seal("col", sample)
	if len(b) > BytesMax {
		t.Errorf("%d bytes, at most %d", len(b), BytesMax)
	}
	if n, why := k.Open("col", b); why != "" || n != sample {
		t.Errorf("%+v, %q", n, why)
	}
	if s := fmt.Sprintf("%v %+v", k, k); strings.Contains(s, "aaa") {
		t.Errorf("the key is shown: %s", s)
	}
}

// Whatever is changed, cut or added makes a datagram worthless.
func TestForgedKnocks(t *testing.T) {
	k := key(t, 0)
	good := k.Seal("col", sample)
	for i := range good {
		bad := append([]byte(nil), good...)
		bad[i] ^= 1
		if _, why := k.Open("col", bad); why != Forged && why != Malformed {
			t.Errorf("byte %d changed: %q", i, why)
		}
		if _, why := k.Open("col", good[:i]); why != Malformed {
			t.Errorf("cut to %d bytes: %q", i, why)
		}
	}
	for name, why := range map[string]Refusal{"longer": second(k.Open("col", append(good, 0))), "colony": second(k.Open("other", good)),
		"key": second(key(t, 1).Open("col", good)), "huge": second(k.Open("col", make([]byte, 65536)))} {
		if why != Forged && why != Malformed {
			t.Errorf("%s: %q", name, why)
		}
	}
	for _, n := range []Knock{{Server: "", Boot: 1}, {Server: "a b", Boot: 1}, {Server: "s1", Boot: 0}} {
		if _, why := k.Open("col", k.Seal("col", n)); why != Malformed {
			t.Errorf("%+v: %q", n, why)
		}
	}
}

func second(_ Knock, why Refusal) Refusal { return why }

func TestKeys(t *testing.T) {
	if _, err := NewKey([]byte("  short  ")); cell.KindOf(err) != cell.Invalid {
		t.Errorf("a short key: %v", err)
	}
	if (Key{}).Set() || !key(t, 0).Set() {
		t.Error("Set is wrong")
	}
}

func TestProofBelongsToOneServerAndKnock(t *testing.T) {
	k := key(t, 0)
	m := wire.DialBack{Control: "control-1", Addr: "10.0.0.8:7300", Nonce: sample.Nonce}
	k.Prove("col", "s1", 4, &m)
	if !k.Proven("col", "s1", 4, &m) {
		t.Fatal("the proof does not hold")
	}
	other := m
	other.Nonce[0]++
	renamed := m
	renamed.Control = "control-2"
	for name, holds := range map[string]bool{"colony": k.Proven("x", "s1", 4, &m), "server": k.Proven("col", "s2", 4, &m),
		"boot": k.Proven("col", "s1", 5, &m), "nonce": k.Proven("col", "s1", 4, &other), "instance": k.Proven("col", "s1", 4, &renamed),
		"key": key(t, 1).Proven("col", "s1", 4, &m)} {
		if holds {
			t.Errorf("it holds for another %s", name)
		}
	}
}

func TestBook(t *testing.T) {
	b := NewBook(2)
	at, known := int64(1_000_000_000), Known{Addr: "10.0.0.1:7302"}
	take := func(id cell.ServerID, boot uint64, ms int64, k Known, want Refusal) {
		t.Helper()
		if got := b.Take(at, Knock{Server: id, Boot: boot, At: ms, Nonce: [16]byte{byte(ms)}}, k); got != want {
			t.Errorf("%s boot %d at %d: %q, want %q", id, boot, ms-at, got, want)
		}
	}
	window := Window.Milliseconds()
	take("s1", 1, at-window-1, known, Late)
	take("s1", 1, at+window+1, known, Late)
	take("s0", 1, at, Known{}, Unknown)
	take("s1", 1, at, known, "")
	take("s1", 1, at, known, Replayed)
	take("s1", 1, at-1, known, Replayed)
	take("s1", 1, at+1, known, Pending)
	take("s1", 2, at-10, known, Pending) // a newer boot, whatever its clock
	take("s1", 1, at+5, known, Replayed)
	take("s2", 1, at, known, "")
	take("s3", 1, at, known, Full)
	take("s4", 9, at, Known{Addr: known.Addr, Connected: true}, Connected)
	if len(b.last) != 4 || b.Waiting() != 2 {
		t.Errorf("%d servers remembered, %d wait", len(b.last), b.Waiting())
	}
	c, ok := b.Next()
	if !ok || c.Knock.Server != "s1" || c.Knock.Boot != 2 || c.Addr != known.Addr {
		t.Errorf("first call: %+v", c)
	}
	take("s1", 2, at+2, known, Pending) // it is being called
	b.Done("s1")
	take("s1", 2, at+3, known, "")
	for _, want := range []cell.ServerID{"s2", "s1"} {
		if c, ok := b.Next(); !ok || c.Knock.Server != want {
			t.Errorf("next call: %+v, want %s", c, want)
		}
	}
	if _, ok := b.Next(); ok {
		t.Error("somebody waits")
	}
}

func FuzzOpen(f *testing.F) {
	k := key(f, 0)
	f.Add(k.Seal("col", sample))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, why := k.Open("col", b)
		if why == "" && string(k.Seal("col", n)) != string(b) {
			t.Errorf("%x is read as %+v", b, n)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	k := key(b, 0)
	d := k.Seal("col", sample)
	for b.Loop() {
		if _, why := k.Open("col", d); why != "" {
			b.Fatal(why)
		}
	}
	b.ReportMetric(float64(time.Second)/float64(b.Elapsed()/time.Duration(b.N)), "knocks/s")
}
