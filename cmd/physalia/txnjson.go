package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"physalia/cell"
)

// The JSON form is for programs. It has the same words as the line form and the same meaning, so that either can be
// translated into the other by hand; what is missing or has the wrong type is an error and never a default.

// txnDocument is a transaction in its JSON form; txnHelp shows one.
type txnDocument struct {
	If   []conditionDocument `json:"if"`
	Then []opDocument        `json:"then"`
	Else []opDocument        `json:"else"`
}

// conditionDocument is one condition: "exists" and "absent" stand alone, the others compare.
type conditionDocument struct {
	Key   string `json:"key"`
	Is    string `json:"is"`    // exists, absent, value, version, modified, created, lease, held
	Op    string `json:"op"`    // == != < <= > >=
	Value any    `json:"value"` // a typed value, or a whole number for revisions and versions
}

// opDocument is one operation; which fields go with it depends on the verb.
type opDocument struct {
	Do    string `json:"do"`    // put, delete, increment, get, scan
	Key   string `json:"key"`   // or the prefix of a scan
	Value any    `json:"value"` // put, increment
	After string `json:"after"` // scan: continue behind this key
	Limit uint32 `json:"limit"` // scan
	Lease uint64 `json:"lease"` // put: attach the key to this lease
}

// parseTxnJSON reads the JSON form, strictly: an unknown field is an error.
func parseTxnJSON(text []byte) (t cell.Txn, err error) {
	var d txnDocument
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	decoder.UseNumber()
	if err := decoder.Decode(&d); err != nil {
		return t, fmt.Errorf("as JSON: %w", err)
	}
	// A second document behind the first would be silently ignored by Decode.
	if _, err := decoder.Token(); err != io.EOF {
		return t, fmt.Errorf("as JSON: there is something behind the document")
	}
	for i, c := range d.If {
		condition, err := c.condition()
		if err != nil {
			return t, fmt.Errorf("if %d: %w", i, err)
		}
		t.If = append(t.If, condition)
	}
	if t.Then, err = operations("then", d.Then); err != nil {
		return t, err
	}
	t.Else, err = operations("else", d.Else)
	return t, err
}

// condition translates a document, strictly.
func (d conditionDocument) condition() (c cell.Condition, err error) {
	c.Key = d.Key
	if d.Is == "exists" || d.Is == "absent" {
		c.Target, c.Compare = cell.OnExistence, cell.Equal
		if d.Is == "absent" {
			c.Compare = cell.NotEqual
		}
		if d.Op != "" || d.Value != nil {
			return c, fmt.Errorf("%s takes neither op nor value", d.Is)
		}
		return c, nil
	}
	var known bool
	if c.Target, known = targets[d.Is]; !known {
		return c, fmt.Errorf("is %q; it must be exists, absent, value, version, modified, created, lease or held", clip(d.Is))
	}
	if c.Compare, known = comparisons[d.Op]; !known {
		return c, fmt.Errorf("op %q is not one of == != < <= > >=", clip(d.Op))
	}
	if c.Target == cell.OnValue {
		c.Value, err = jsonValue(d.Value)
		return c, err
	}
	// Any other type leaves the number empty, which does not parse.
	number, _ := d.Value.(json.Number)
	if c.Number, err = strconv.ParseUint(number.String(), 10, 64); err != nil {
		return c, fmt.Errorf("%s is compared with a whole number, not with %v", d.Is, d.Value)
	}
	return c, nil
}

// operations reads one branch; errors name it and the index in it.
func operations(branch string, documents []opDocument) (ops []cell.Op, err error) {
	for i, d := range documents {
		o := cell.Op{Key: d.Key, After: d.After, Limit: d.Limit, Lease: cell.LeaseID(d.Lease)}
		var known bool
		if o.Kind, known = opKinds[d.Do]; !known {
			return nil, fmt.Errorf("%s %d: do %q; it must be put, delete, increment, get or scan", branch, i, clip(d.Do))
		}
		takesValue := o.Kind == cell.OpPut || o.Kind == cell.OpIncrement
		switch {
		case takesValue:
			if o.Value, err = jsonValue(d.Value); err != nil {
				return nil, fmt.Errorf("%s %d: %w", branch, i, err)
			}
		case d.Value != nil:
			return nil, fmt.Errorf("%s %d: %s takes no value", branch, i, d.Do)
		}
		if o.Kind != cell.OpScan && (d.After != "" || d.Limit != 0) {
			return nil, fmt.Errorf("%s %d: only a scan takes after and limit", branch, i)
		}
		ops = append(ops, o)
	}
	return ops, nil
}

// jsonValue turns a JSON value into a typed one: numbers are integers, {"base64": "..."} is bytes.
func jsonValue(v any) (cell.Value, error) {
	switch v := v.(type) {
	case string:
		return cell.String(v), nil
	case bool:
		return cell.Bool(v), nil
	case json.Number:
		if n, ok := parseInt(v.String()); ok {
			return cell.BigInt(n), nil
		}
		return cell.Value{}, fmt.Errorf("%s is not an integer of at most %d bits", clip(v.String()), cell.IntBitsMax)
	case map[string]any:
		text, ok := v["base64"].(string)
		if b, err := base64.StdEncoding.DecodeString(text); ok && len(v) == 1 && err == nil {
			return cell.Bytes(b), nil
		}
		return cell.Value{}, fmt.Errorf(`bytes are written {"base64": "..."}`)
	case nil:
		return cell.Value{}, fmt.Errorf("value is missing")
	}
	return cell.Value{}, fmt.Errorf("a value is a whole number, a string, true, false or {\"base64\": ...}")
}
