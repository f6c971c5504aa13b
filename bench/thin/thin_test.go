package thin

import (
	"bytes"
	"net"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serving starts a server and returns its address and what ends it.
func serving(t *testing.T, handle func(Request)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- Serve(l, handle) }()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// A client finds the leader: past a server that is not there, and by what another one says.
func TestClientFindsTheLeader(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := gone.Addr().String()
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	keys := map[string][]byte{}
	leader := serving(t, func(r Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Op == OpPut {
			keys[r.Key] = bytes.Clone(r.Value)
			r.Reply(OK, nil)
		} else if v, ok := keys[r.Key]; ok {
			r.Reply(OK, v)
		} else {
			r.Reply(Absent, nil)
		}
	})
	follower := serving(t, func(r Request) { r.Reply(NotLeader, []byte{2}) })
	c := New([]string{nobody, follower, leader}, 1)
	defer c.Close()
	if err := c.Put(t.Context(), 0, "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(t.Context(), 0, "k"); err != nil || string(got) != "v" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := c.Get(t.Context(), 0, "other"); err != nil || got != nil {
		t.Errorf("an absent key: %q, %v", got, err)
	}
	if c.Leader(0) != 2 {
		t.Errorf("the leader is %d, want 2", c.Leader(0))
	}
}

func TestFailureIsNotRepeated(t *testing.T) {
	var mu sync.Mutex
	asked := 0
	c := New([]string{serving(t, func(r Request) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		r.Reply(Failed, []byte("the reason"))
	})}, 1)
	defer c.Close()
	err := c.Put(t.Context(), 0, "k", nil)
	mu.Lock()
	defer mu.Unlock()
	if err == nil || asked != 1 {
		t.Errorf("asked %d times, %v", asked, err)
	}
}

func TestParse(t *testing.T) {
	good := append([]byte{1, 0, 0, 0, 0, 0, 0, 0, OpPut, 7, 0, 0, 0, 2, 0}, "keyvalue"...)
	if r, number, ok := parse(good); !ok || number != 1 || r.Group != 7 || r.Key != "ke" || string(r.Value) != "yvalue" {
		t.Errorf("got %+v, %d, %v", r, number, ok)
	}
	for name, bad := range map[string][]byte{"short": good[:14], "long key": append(bytes.Clone(good[:13]), 0xff, 0xff), "operation": append(append(bytes.Clone(good[:8]), 9), good[9:]...)} {
		if _, _, ok := parse(bad); ok {
			t.Errorf("%s: taken", name)
		}
	}
}
