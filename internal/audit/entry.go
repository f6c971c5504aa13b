package audit

import (
	"encoding/json"
	"strings"

	"physalia/cell"
	"physalia/internal/wire"
)

// Entry is one thing that was asked, and what became of it. Fields are only ever added.
type Entry struct {
	Time    string   `json:"time"`              // of the answer, RFC 3339 in UTC with milliseconds
	Control string   `json:"control"`           // name of the control process
	Who     string   `json:"who"`               // identity in the certificate, with the token if that is what allowed it
	From    string   `json:"from,omitempty"`    // address
	Says    string   `json:"says,omitempty"`    // who he said he is, which nothing proves
	Action  string   `json:"action"`            // the method
	What    []string `json:"what,omitempty"`    // cells, servers, actions: what it was about
	Why     string   `json:"why,omitempty"`     // as --reason said
	Result  string   `json:"result"`            // "ok", or the kind of the error
	Detail  string   `json:"detail,omitempty"`  // of an error
	Took    int64    `json:"took_ms"`           // milliseconds from question to answer
	Skipped uint64   `json:"skipped,omitempty"` // denials before this one that were not recorded, because there were too many
}

// whatBytesMax bounds what an entry is about, so that a line keeps to its bound whatever was asked: the names of a whole batch fit.
const (
	whatBytesMax = 200 << 10
	textBytesMax = 1024 // of every other text
)

// Line is an entry as it is written, with its newline.
func (e Entry) Line() []byte {
	// All of it came from outside, or quotes what did.
	for _, text := range []*string{&e.Time, &e.Control, &e.Who, &e.From, &e.Says, &e.Action, &e.Why, &e.Result, &e.Detail} {
		*text = clip(*text)
	}
	// Eight bytes more than a name are its quotes, its comma, and some room for what has to be escaped.
	left := whatBytesMax
	for i := range e.What {
		if left -= len(e.What[i]) + 8; left < 0 {
			e.What = append(e.What[:i:i], "...")
			break
		}
	}
	line, err := json.Marshal(e)
	if err != nil { // there is no value in an entry that cannot be encoded
		panic(err)
	}
	return append(line, '\n')
}

// clip cuts a text. What is not UTF-8 is replaced by the encoding.
func clip(text string) string {
	if len(text) > textBytesMax {
		return text[:textBytesMax] + "..."
	}
	return text
}

// Parse reads a line.
func Parse(line string) (e Entry, err error) {
	err = json.Unmarshal([]byte(line), &e)
	return e, err
}

// Answer fills in what became of it: of a batch, how the first failure reads, and which elements have failed.
func (e *Entry) Answer(result wire.Message, err *cell.Error) {
	e.Result = "ok"
	if err != nil {
		e.Result, e.Detail = err.Kind.String(), err.Detail
		return
	}
	batch, ok := result.(*wire.Outcomes)
	if !ok || batch == nil {
		return
	}
	// The first failure speaks for all: elements of a batch mostly fail for the same reason.
	var failed []string
	for i, o := range batch.Outcomes {
		if o.Err == nil {
			continue
		}
		if len(failed) == 0 {
			e.Result, e.Detail = o.Err.Kind.String(), o.Err.Detail
		}
		if i < len(e.What) {
			failed = append(failed, e.What[i])
		}
	}
	if len(failed) > 0 && len(batch.Outcomes) > 1 {
		e.Detail = "failed: " + strings.Join(failed, " ") + "; the first: " + e.Detail
	}
}
