package wire

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"physalia/cell"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files instead of comparing with them")

// TestGoldenBytes fixes the format: a difference here is a change of the format, which needs a new version and a reader
// for the old one. The committed bytes, not only the encoder's, must decode to the sample.
func TestGoldenBytes(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			committed := golden(t, s.name, s.full.Append(nil))
			got := s.empty()
			if err := Unmarshal(committed, got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, s.full) {
				t.Errorf("decoded\n%+v\nwant\n%+v", got, s.full)
			}
		})
	}
}

// TestGoldenEnvelopes fixes the frame and the RPC envelope around one message.
func TestGoldenEnvelopes(t *testing.T) {
	params := (&Pong{Boot: 4, Nodes: 1000}).Append(nil)
	golden(t, "rpc-request", AppendRequest(nil, 70000, MethodTxn, params))
	golden(t, "rpc-request-without-params", AppendRequest(nil, 1, MethodServer, nil))
	golden(t, "rpc-result", AppendResult(nil, 70000, params))
	golden(t, "rpc-result-of-nothing", AppendResult(nil, 70000, nil))
	golden(t, "rpc-failure", AppendFailure(nil, 70000, &cell.Error{Kind: cell.Overloaded, RetryAfter: 1}))
	golden(t, "rpc-notification", AppendNotification(nil, MethodPush, params))

	const path = "testdata/golden/frame.hex"
	frame := fmt.Appendf(nil, "%x\n", EndFrame(AppendRequest(BeginFrame(nil), 70000, MethodTxn, params), 0))
	if *rewrite {
		write(t, path, frame)
	}
	if want, err := os.ReadFile(path); err != nil || !bytes.Equal(frame, want) {
		t.Errorf("frame is %s, want %s (%v)", frame, want, err)
	}
}

// TestGoldenFilesAreUsed finds golden files of messages that are gone.
func TestGoldenFilesAreUsed(t *testing.T) {
	known := make(map[string]bool)
	for _, s := range samples() {
		known[s.name] = true
	}
	files, err := filepath.Glob("testdata/golden/*.txt")
	if err != nil || len(files) < len(known) {
		t.Fatalf("%d golden files for %d messages, %v", len(files), len(known), err)
	}
	for _, f := range files {
		if name := strings.TrimSuffix(filepath.Base(f), ".txt"); !known[name] && !strings.HasPrefix(name, "rpc-") {
			t.Errorf("%s belongs to no message", f)
		}
	}
}

// golden compares encoded values with a golden file and returns the bytes that the file holds.
func golden(t *testing.T, name string, encoded []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".txt")
	text := describe(encoded)
	if *rewrite {
		write(t, path, []byte(text))
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("bytes differ from %s; got\n%s\nwant\n%s", path, text, want)
	}
	var committed []byte
	for line := range strings.Lines(string(want)) {
		digits, _, _ := strings.Cut(line, " ")
		part, err := hex.DecodeString(strings.TrimSpace(digits))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		committed = append(committed, part...)
	}
	return committed
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// describe shows encoded values one per line: the bytes, then the value, indented by depth.
func describe(encoded []byte) string {
	var b strings.Builder
	r := NewReader(encoded)
	var open []uint64 // elements still to come, per open array
	for r.Err() == nil && r.Left() > 0 {
		at, indent := r.off, strings.Repeat("  ", len(open))
		elements, isArray := r.step()
		fmt.Fprintf(&b, "%-24x %s%s\n", encoded[at:r.off], indent, describeValue(encoded[at:r.off], elements, isArray))
		if isArray && elements > 0 {
			open = append(open, elements)
			continue
		}
		for len(open) > 0 {
			if open[len(open)-1]--; open[len(open)-1] > 0 {
				break
			}
			open = open[:len(open)-1]
		}
	}
	if r.Err() != nil {
		fmt.Fprintf(&b, "error: %v\n", r.Err())
	}
	return b.String()
}

// describeValue shows one value that is not an array, or the head of one that is.
func describeValue(p []byte, elements uint64, isArray bool) string {
	r := NewReader(p)
	switch c := p[0]; {
	case isArray:
		return fmt.Sprintf("array of %d", elements)
	case c == msgpcode.Nil:
		return "nil"
	case c == msgpcode.True, c == msgpcode.False:
		return fmt.Sprint(r.Bool())
	case c >= msgpcode.Bin8 && c <= msgpcode.Bin32:
		return fmt.Sprintf("bytes %x", r.Bytes(len(p), "bytes"))
	case msgpcode.IsFixedString(c), c >= msgpcode.Str8 && c <= msgpcode.Str32:
		return fmt.Sprintf("%q", r.Text(len(p), "string"))
	case c == msgpcode.Uint64:
		return fmt.Sprint(r.Uint())
	}
	return fmt.Sprint(r.Int())
}
