package main

import (
	"math/big"
	"reflect"
	"strings"
	"testing"

	"physalia/cell"
)

const txnAsText = `
# promote, unless somebody else did
if primary value == "s1"
if lock absent
if "a key" version >= 3
if gen modified < 118
if gen created != 7
if "primary" exists
if lock lease == 0
if "" held != 12

then put primary "s2"
then put flag true
then put mask 0x0a0b lease 12
then increment gen -1
then delete lock
then get gen
then scan vol/ after "vol/a b" limit 10
else get primary
else scan ""
`

const txnAsJSON = `{
 "if": [{"key":"primary","is":"value","op":"==","value":"s1"}, {"key":"lock","is":"absent"},
        {"key":"a key","is":"version","op":">=","value":3}, {"key":"gen","is":"modified","op":"<","value":118},
        {"key":"gen","is":"created","op":"!=","value":7}, {"key":"primary","is":"exists"},
        {"key":"lock","is":"lease","op":"==","value":0}, {"is":"held","op":"!=","value":12}],
 "then": [{"do":"put","key":"primary","value":"s2"}, {"do":"put","key":"flag","value":true},
          {"do":"put","key":"mask","value":{"base64":"Cgs="},"lease":12}, {"do":"increment","key":"gen","value":-1},
          {"do":"delete","key":"lock"}, {"do":"get","key":"gen"}, {"do":"scan","key":"vol/","after":"vol/a b","limit":10}],
 "else": [{"do":"get","key":"primary"}, {"do":"scan","key":""}]}`

func TestTxnForms(t *testing.T) {
	want := cell.Txn{
		If: []cell.Condition{
			{Key: "primary", Target: cell.OnValue, Compare: cell.Equal, Value: cell.String("s1")},
			{Key: "lock", Target: cell.OnExistence, Compare: cell.NotEqual},
			{Key: "a key", Target: cell.OnVersion, Compare: cell.GreaterEqual, Number: 3},
			{Key: "gen", Target: cell.OnModRevision, Compare: cell.Less, Number: 118},
			{Key: "gen", Target: cell.OnCreateRevision, Compare: cell.NotEqual, Number: 7},
			{Key: "primary", Target: cell.OnExistence, Compare: cell.Equal},
			{Key: "lock", Target: cell.OnLease, Compare: cell.Equal},
			{Target: cell.OnHeld, Compare: cell.NotEqual, Number: 12},
		},
		Then: []cell.Op{
			{Kind: cell.OpPut, Key: "primary", Value: cell.String("s2")}, {Kind: cell.OpPut, Key: "flag", Value: cell.Bool(true)},
			{Kind: cell.OpPut, Key: "mask", Value: cell.Bytes([]byte{10, 11}), Lease: 12},
			{Kind: cell.OpIncrement, Key: "gen", Value: cell.Int(-1)}, {Kind: cell.OpDelete, Key: "lock"},
			{Kind: cell.OpGet, Key: "gen"}, {Kind: cell.OpScan, Key: "vol/", After: "vol/a b", Limit: 10},
		},
		Else: []cell.Op{{Kind: cell.OpGet, Key: "primary"}, {Kind: cell.OpScan}},
	}
	for form, text := range map[string]string{"text": txnAsText, "JSON": txnAsJSON} {
		got, err := readTxn("test", strings.NewReader(text))
		if err != nil {
			t.Errorf("%s: %v", form, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v\nwant %+v", form, got, want)
		}
	}
}

func TestTxnErrors(t *testing.T) {
	for text, says := range map[string]string{
		"when x exists":              "line 1: a line begins with",
		"\n\nif x":                   "line 3: a condition needs a key",
		"if x exists now":            "too many words",
		"if x value =! 1":            "operator",
		"if x value == one":          "is not a value",
		"if x version == -1":         "compared with a number",
		"if x colour == 1":           "tests exists",
		"then pot x 1":               "put, delete",
		"then put x":                 "needs a value",
		"then put x 1.5":             "is not a value",
		"then put x 1 lease y":       "a lease is a number",
		"then put x 1 lease":         "too many words",
		"then increment x 1 lease 3": "too many words",
		"if k held == 3":             "names no key",
		`{"then":[{"do":"get","key":"x","lease":3}]}`: "only a put",
		"then put \"x 1":                    "quoted string does not end",
		"then scan x limit":                 "nothing behind it",
		"then scan x until 3":               "after and limit",
		"":                                  "allowed are 1 to",
		"then increment x \"1\"":            "needs an integer",
		"{\"iff\":[]}":                      "unknown field",
		"{} {}":                             "behind the document",
		`{"then":[{"do":"put","key":"x"}]}`: "value is missing",
		`{"if":[{"key":"x","is":"exists","op":"=="}]}`:              "takes neither",
		`{"then":[{"do":"put","key":"x","value":1.5}]}`:             "not an integer",
		`{"then":[{"do":"put","key":"x","value":{"hex":""}}]}`:      "base64",
		`{"then":[{"do":"get","key":"x","limit":3}]}`:               "only a scan",
		`{"if":[{"key":"x","is":"version","op":"==","value":"3"}]}`: "whole number",
		"then put x " + strings.Repeat("9", 2000):                   "is not a value",
	} {
		_, err := readTxn("test", strings.NewReader(text))
		if err == nil || !strings.Contains(err.Error(), says) || exitOf(err, false) != exitUsage {
			t.Errorf("%q: got %v, want %q", clip(text), err, says)
		}
	}
}

// What a table shows as a value can be written back as one.
func TestLiterals(t *testing.T) {
	huge := new(big.Int).Lsh(big.NewInt(1), cell.IntBitsMax-1)
	for _, v := range []cell.Value{cell.Int(0), cell.Int(-42), cell.BigInt(huge), cell.BigInt(new(big.Int).Neg(huge)), cell.String(""),
		cell.String("a \"b\"\n\xff"), cell.Bool(true), cell.Bool(false), cell.Bytes(nil), cell.Bytes([]byte{0, 255})} {
		if got, ok := parseLiteral(v.String()); !ok || !got.Equal(v) {
			t.Errorf("%v became %v", v, got)
		}
	}
	if _, ok := parseLiteral(new(big.Int).Lsh(huge, 1).String()); ok {
		t.Error("an integer above the bound was read")
	}
}

func TestTypedValues(t *testing.T) {
	for _, c := range []struct {
		typ, text string
		want      cell.Value
	}{
		{"string", "42", cell.String("42")}, {"int", "42", cell.Int(42)}, {"bool", "true", cell.Bool(true)},
		{"bytes", "0x0a", cell.Bytes([]byte{10})}, {"bytes", "0a", cell.Bytes([]byte{10})},
		{"int", "4x", cell.Value{}}, {"bool", "yes", cell.Value{}}, {"bytes", "0xg", cell.Value{}}, {"float", "1", cell.Value{}},
	} {
		got, err := parseTyped("test", c.typ, c.text)
		if (err != nil) != c.want.IsZero() || err == nil && !got.Equal(c.want) {
			t.Errorf("%s %q: got %v, %v", c.typ, c.text, got, err)
		}
	}
}
