package wire

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"physalia/cell"
)

// Message is a struct of this format. Append adds its one encoding to b and returns the extended buffer; it never
// fails, and texts that only people read are cut to their bound. Decode overwrites every field and copies what it
// keeps, so the input may be reused; after an error, which stays in the Reader, the content is undefined.
type Message interface {
	Append(b []byte) []byte
	Decode(r *Reader)
}

// ErrNotUnderstood is in the chain of every error that means "written by a newer version": a format, version, kind or
// type number without a meaning here. Such input is intact, so it must never be skipped or repaired (rule 9).
var ErrNotUnderstood = errors.New("this version does not understand it")

// readers spares Unmarshal an allocation per call: a Reader handed through an interface would escape to the heap.
var readers = sync.Pool{New: func() any { return new(Reader) }}

// Unmarshal decodes buf, which must hold exactly one message, into m. The error is a *cell.Error of kind Invalid that
// names the message and the byte. It speaks of these bytes only: a client that cannot decode a reply does not know
// whether its request was applied, and must report UnknownResult.
func Unmarshal(buf []byte, m Message) error {
	r := readers.Get().(*Reader)
	*r = NewReader(buf)
	m.Decode(r)
	err := unmarshalled(r, m)
	*r = Reader{}
	readers.Put(r)
	return err
}

// unmarshalled is the end of decoding a message of m's type.
func unmarshalled(r *Reader, m Message) error {
	err := r.Done()
	if err == nil {
		return nil
	}
	return decodeError(cell.Invalid, m, err, "the sender speaks another protocol version or is broken; compare the versions of both sides")
}

// decodeError names the message and keeps ErrNotUnderstood in the chain.
func decodeError(k cell.Kind, m Message, err error, hint string) error {
	e := &cell.Error{Op: "wire.decode", Kind: k, Hint: hint,
		Detail: strings.TrimPrefix(fmt.Sprintf("%T: ", m), "*wire.") + err.Error()}
	if errors.Is(err, ErrNotUnderstood) {
		e.Err = ErrNotUnderstood
	}
	return e
}

// appendList adds a list of messages.
func appendList[T any, M interface {
	*T
	Message
}](b []byte, list []T) []byte {
	b = AppendArray(b, len(list))
	for i := range list {
		b = M(&list[i]).Append(b)
	}
	return b
}

// decodeList reads a list of at most max messages, each at least least bytes long; nil when it is empty.
func decodeList[T any, M interface {
	*T
	Message
}](r *Reader, max, least int, what string) []T {
	n := r.list(max, least, what)
	if n == 0 {
		return nil
	}
	list := make([]T, n)
	for i := range list {
		if M(&list[i]).Decode(r); r.err != nil {
			return nil
		}
	}
	return list
}

// list consumes the head of an array whose elements take at least least bytes each. What it returns may be allocated
// at once: memory stays proportional to bytes that really arrived, whatever the head claims.
func (r *Reader) list(max, least int, what string) int {
	n := r.Array(max, what)
	if n > r.Left()/least {
		r.Fail("%s has %d elements of at least %d bytes with %d left", what, n, least, r.Left())
		return 0
	}
	return n
}

// appendStrings adds a list of strings.
func appendStrings[S ~string](b []byte, list []S) []byte {
	b = AppendArray(b, len(list))
	for _, s := range list {
		b = AppendString(b, string(s))
	}
	return b
}

// decodeStrings reads a list of at most max strings of at most bytesMax bytes each; nil when it is empty.
func decodeStrings[S ~string](r *Reader, max, bytesMax int, what string) []S {
	n := r.list(max, 1, what)
	if n == 0 {
		return nil
	}
	list := make([]S, n)
	for i := range list {
		list[i] = S(r.Text(bytesMax, what))
	}
	return list
}

// decodeID reads the name of a cell.
func decodeID(r *Reader) cell.ID { return cell.ID(r.Text(cell.IDBytesMax, "cell name")) }

// decodeServer reads a server identity.
func decodeServer(r *Reader) cell.ServerID {
	return cell.ServerID(r.Text(cell.ServerIDBytesMax, "server identity"))
}
