package main

import (
	"encoding/hex"
	"encoding/json"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"physalia/cell"
)

// Values have types that the colony never guesses (42 and "42" differ), so the command line does not guess either. There are
// two notations. An argument of `kv put` is text with its type named beside it, which suits shells: no quotes inside quotes.
// A transaction has many values, so there a value is a literal that shows its type, the same that tables show.

// parseTyped makes a value from an argument and the name of its type, as `kv put --type` takes them.
func parseTyped(op, typ, text string) (cell.Value, error) {
	switch typ {
	case "string":
		return cell.String(text), nil
	case "int":
		if n, ok := parseInt(text); ok {
			return cell.BigInt(n), nil
		}
		return cell.Value{}, usage(op, "write decimal digits, for example -17", "%q is not an integer of at most %d bits", clip(text), cell.IntBitsMax)
	case "bool":
		if text == "true" || text == "false" {
			return cell.Bool(text == "true"), nil
		}
		return cell.Value{}, usage(op, "write true or false", "%q is not a boolean", clip(text))
	case "bytes":
		b, err := hex.DecodeString(strings.TrimPrefix(text, "0x"))
		if err != nil {
			return cell.Value{}, usage(op, "write hexadecimal digits, for example 0x0a0b", "%q is not bytes: %v", clip(text), err)
		}
		return cell.Bytes(b), nil
	}
	return cell.Value{}, usage(op, "use --type string, int, bool or bytes", "value type %q is unknown", typ)
}

// parseLiteral reads a value as cell.Value.String shows it: 42, "text", true, 0x0a0b.
func parseLiteral(text string) (cell.Value, bool) {
	switch {
	case text == "true" || text == "false":
		return cell.Bool(text == "true"), true
	case strings.HasPrefix(text, `"`):
		s, err := strconv.Unquote(text)
		return cell.String(s), err == nil
	case strings.HasPrefix(text, "0x"):
		b, err := hex.DecodeString(text[2:])
		return cell.Bytes(b), err == nil
	}
	// What is neither quoted, a truth value nor hexadecimal can only be a number; a bare word is no string here.
	n, ok := parseInt(text)
	if !ok {
		return cell.Value{}, false
	}
	return cell.BigInt(n), true
}

// parseInt reads a decimal integer. The length is checked first: parsing costs more than linear time.
func parseInt(text string) (*big.Int, bool) {
	if len(text) > cell.IntBitsMax/3+2 {
		return nil, false
	}
	n, ok := new(big.Int).SetString(text, 10)
	return n, ok && n.BitLen() <= cell.IntBitsMax
}

// clip shortens a text from outside for an error message, which must not become as long as its input.
func clip(text string) string {
	const most = 40
	if len(text) <= most {
		return text
	}
	return text[:most] + "..."
}

// entryDocument is one key under -o json. Integers are numbers of any size. A key or string that is not valid UTF-8 has
// its bytes in the base64 field instead, since JSON cannot carry it.
type entryDocument struct {
	Key            string `json:"key"`                       // as it is, when it is valid UTF-8
	KeyBase64      []byte `json:"key_base64,omitempty"`      // otherwise
	Type           string `json:"type,omitempty"`            // int, string, bool or bytes
	Value          any    `json:"value,omitempty"`           // number, string or boolean
	ValueBase64    []byte `json:"value_base64,omitempty"`    // bytes, and strings that are not valid UTF-8
	CreateRevision uint64 `json:"create_revision,omitempty"` // revision that created the key
	ModRevision    uint64 `json:"mod_revision,omitempty"`    // revision that last wrote it
	Version        uint64 `json:"version,omitempty"`         // writes since it was created
	Lease          uint64 `json:"lease,omitempty"`           // the lease that it is attached to
}

// describeEntry makes the JSON form of an entry. Whatever is in the cell can be told from it byte by byte: what JSON cannot
// carry as a string is in base64. A zero value, as for a deleted key, has neither type nor value.
func describeEntry(e cell.Entry) entryDocument {
	d := entryDocument{CreateRevision: uint64(e.CreateRevision), ModRevision: uint64(e.ModRevision), Version: e.Version,
		Lease: uint64(e.Lease)}
	if utf8.ValidString(e.Key) {
		d.Key = e.Key
	} else {
		d.KeyBase64 = []byte(e.Key)
	}
	if e.Value.IsZero() {
		return d
	}
	d.Type = e.Value.Type().String()
	switch e.Value.Type() {
	case cell.BoolType:
		d.Value, _ = e.Value.AsBool()
	case cell.IntType:
		d.Value = json.Number(e.Value.String())
	case cell.StringType:
		if text, _ := e.Value.AsString(); utf8.ValidString(text) {
			d.Value = text
			break
		}
		d.ValueBase64 = []byte(e.Value.RawText())
	case cell.BytesType:
		d.ValueBase64 = []byte(e.Value.RawText())
	}
	return d
}

// showKey prints a key: as it is when it is one plain word, else quoted.
func showKey(key string) string {
	if quoted := strconv.Quote(key); key == "" || quoted != `"`+key+`"` || strings.ContainsAny(key, " \t") {
		return quoted
	}
	return key
}

// rawValue is the value alone, without quotes or type, for `kv get --raw`: strings and bytes as they are.
func rawValue(v cell.Value) string {
	if t := v.Type(); t == cell.StringType || t == cell.BytesType {
		return v.RawText()
	}
	return v.String()
}
