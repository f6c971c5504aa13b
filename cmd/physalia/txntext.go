package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"

	"physalia/cell"
)

// The text is bounded before it is read whole; a transaction within its own bounds fits many times over, quotes and escapes
// included.
//
// txnInputMax bounds the text of a transaction; the transaction itself is bounded by cell.Txn.Check.
const txnInputMax = 1 << 20

// txnHelp documents the two forms of a transaction.
const txnHelp = `A transaction is read whole, from a file or from standard input (-). All conditions are tested first; when all hold, the
"then" operations run, otherwise the "else" operations do, atomically. Text form, one condition or operation per line,
empty lines and lines that begin with # are skipped:

  if   KEY exists
  if   KEY absent
  if   KEY value    OPERATOR VALUE      OPERATOR: == != < <= > >=
  if   KEY version  OPERATOR NUMBER     writes since the key was created
  if   KEY modified OPERATOR NUMBER     revision of the last write
  if   KEY created  OPERATOR NUMBER     revision of the creation
  if   KEY lease    OPERATOR NUMBER     lease that the key is attached to, 0: none
  if   ""  held     OPERATOR NUMBER     == lease NUMBER is held, != it is not
  then put KEY VALUE [lease NUMBER]
  then delete KEY
  then increment KEY NUMBER
  then get KEY
  then scan PREFIX [after KEY] [limit NUMBER]
  else ...                              the same operations

KEY is a word or a quoted "string"; VALUE is 42, "text", true, false or 0x0a0b. JSON form, the same words; bytes are
{"base64": "..."}:

  {"if":   [{"key": "primary", "is": "value", "op": "==", "value": "s1"}, {"key": "lock", "is": "absent"}],
   "then": [{"do": "put", "key": "primary", "value": "s2"}, {"do": "scan", "key": "", "limit": 10}],
   "else": [{"do": "get", "key": "primary"}]}
`

// readTxn reads a transaction in either form; JSON begins with a brace.
func readTxn(op string, r io.Reader) (cell.Txn, error) {
	text, err := io.ReadAll(io.LimitReader(r, txnInputMax+1))
	if err != nil {
		return cell.Txn{}, usage(op, "check the file", "reading the transaction: %v", err)
	}
	if len(text) > txnInputMax {
		return cell.Txn{}, usage(op, "split the transaction", "the transaction's text is larger than %d bytes", txnInputMax)
	}
	// No line of the text form can begin with a brace.
	parse := parseTxnText
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		parse = parseTxnJSON
	}
	t, problem := parse(text)
	if problem != nil {
		return cell.Txn{}, usage(op, "see `physalia kv txn --help` for the two forms", "%v", problem)
	}
	return t, t.Check()
}

// The line form is made to be typed and to be read aloud: "if primary value == "s1", then put primary "s2"". It has no
// nesting, no escapes but those of quoted strings, and no order among the sections: the three lists keep their own order.
// Keywords stand in fixed places, so a key may well be called "then".

// parseTxnText reads the line form. Errors name the line.
func parseTxnText(text []byte) (t cell.Txn, err error) {
	for i, line := range strings.Split(string(text), "\n") {
		words, err := splitWords(line)
		if err != nil {
			return t, fmt.Errorf("line %d: %w", i+1, err)
		}
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "if":
			var c cell.Condition
			if c, err = parseCondition(words[1:]); err == nil {
				t.If = append(t.If, c)
			}
		case "then", "else":
			var o cell.Op
			if o, err = parseOp(words[1:]); err != nil {
				break
			}
			if words[0] == "then" {
				t.Then = append(t.Then, o)
			} else {
				t.Else = append(t.Else, o)
			}
		default:
			err = fmt.Errorf("a line begins with if, then or else, not with %q", clip(words[0]))
		}
		if err != nil {
			return t, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return t, nil
}

// splitWords splits a line at blanks; a quoted string is one word and keeps its quotes, so that "42" and 42 stay different.
// A line that begins with # has no words.
func splitWords(line string) (words []string, err error) {
	for {
		line = strings.TrimLeft(line, " \t\r")
		if line == "" || line[0] == '#' && len(words) == 0 {
			return words, nil
		}
		word := line
		if line[0] == '"' {
			if word, err = strconv.QuotedPrefix(line); err != nil {
				return nil, fmt.Errorf("a quoted string does not end, or has a bad escape: %s", clip(line))
			}
		} else if i := strings.IndexAny(line, " \t\r"); i >= 0 {
			word = line[:i]
		}
		words, line = append(words, word), line[len(word):]
	}
}

// keyOf reads a key as written: a word, or a quoted string for keys with blanks, quotes or bytes that cannot be typed.
func keyOf(word string) (string, error) {
	if !strings.HasPrefix(word, `"`) {
		return word, nil
	}
	key, err := strconv.Unquote(word)
	if err != nil {
		return "", fmt.Errorf("key %s: %w", clip(word), err)
	}
	return key, nil
}

// comparisons and targets are the words of conditions, in both forms.
var comparisons = map[string]cell.Comparison{"==": cell.Equal, "!=": cell.NotEqual, "<": cell.Less,
	"<=": cell.LessEqual, ">": cell.Greater, ">=": cell.GreaterEqual}

var targets = map[string]cell.Target{"value": cell.OnValue, "version": cell.OnVersion,
	"modified": cell.OnModRevision, "created": cell.OnCreateRevision, "lease": cell.OnLease, "held": cell.OnHeld}

// parseCondition reads the words behind "if": a key, what to look at, and for all but existence an operator and an operand.
// A comparison of values has a literal on its right, and is false when the stored value has another type.
func parseCondition(words []string) (c cell.Condition, err error) {
	if len(words) < 2 {
		return c, fmt.Errorf("a condition needs a key and what to test")
	}
	if c.Key, err = keyOf(words[0]); err != nil {
		return c, err
	}
	if words[1] == "exists" || words[1] == "absent" {
		c.Target, c.Compare = cell.OnExistence, cell.Equal
		if words[1] == "absent" {
			c.Compare = cell.NotEqual
		}
		return c, atMost(words, 2)
	}
	var known bool
	if c.Target, known = targets[words[1]]; !known {
		return c, fmt.Errorf("a condition tests exists, absent, value, version, modified, created, lease or held, not %q", clip(words[1]))
	}
	if len(words) < 4 {
		return c, fmt.Errorf("a condition on %s needs an operator and an operand", words[1])
	}
	if c.Compare, known = comparisons[words[2]]; !known {
		return c, fmt.Errorf("operator %q is not one of == != < <= > >=", clip(words[2]))
	}
	if c.Target == cell.OnValue {
		if c.Value, known = parseLiteral(words[3]); !known {
			return c, badLiteral(words[3])
		}
		return c, atMost(words, 4)
	}
	if c.Number, err = strconv.ParseUint(words[3], 10, 64); err != nil {
		return c, fmt.Errorf("%s is compared with a number, not with %q", words[1], clip(words[3]))
	}
	return c, atMost(words, 4)
}

// opKinds are the verbs of operations, in both forms.
var opKinds = map[string]cell.OpKind{"put": cell.OpPut, "delete": cell.OpDelete, "increment": cell.OpIncrement,
	"get": cell.OpGet, "scan": cell.OpScan}

// parseOp reads the words behind "then" or "else": a verb, a key, and a value where the verb takes one.
func parseOp(words []string) (o cell.Op, err error) {
	if len(words) < 2 {
		return o, fmt.Errorf("an operation needs a verb and a key")
	}
	var known bool
	if o.Kind, known = opKinds[words[0]]; !known {
		return o, fmt.Errorf("an operation is put, delete, increment, get or scan, not %q", clip(words[0]))
	}
	if o.Key, err = keyOf(words[1]); err != nil {
		return o, err
	}
	// Whether an increment's value is an integer is for Txn.Check to say, in the words that every client gets.
	switch o.Kind {
	case cell.OpPut, cell.OpIncrement:
		if len(words) < 3 {
			return o, fmt.Errorf("%s needs a value", words[0])
		}
		if o.Value, known = parseLiteral(words[2]); !known {
			return o, badLiteral(words[2])
		}
		// Only a put attaches its key; with any other verb the words are too many, below.
		if o.Kind == cell.OpPut && len(words) > 4 && words[3] == "lease" {
			n, err := strconv.ParseUint(words[4], 10, 64)
			if err != nil {
				return o, fmt.Errorf("a lease is a number, not %q", clip(words[4]))
			}
			o.Lease = cell.LeaseID(n)
			return o, atMost(words, 5)
		}
		return o, atMost(words, 3)
	case cell.OpScan:
		return o, parseScan(&o, words[2:])
	}
	return o, atMost(words, 2)
}

// parseScan reads what may follow the prefix of a scan, in pairs: "after KEY" to continue a scan, "limit NUMBER" to bound it.
func parseScan(o *cell.Op, words []string) error {
	for ; len(words) >= 2; words = words[2:] {
		var err error
		switch words[0] {
		case "after":
			o.After, err = keyOf(words[1])
		case "limit":
			var n uint64
			n, err = strconv.ParseUint(words[1], 10, 32)
			o.Limit = uint32(n)
		default:
			err = fmt.Errorf("a scan takes after and limit, not %q", clip(words[0]))
		}
		if err != nil {
			return err
		}
	}
	if len(words) == 1 {
		return fmt.Errorf("%q has nothing behind it", clip(words[0]))
	}
	return nil
}

// atMost refuses a line that goes on behind its end: half understood is not understood.
func atMost(words []string, n int) error {
	if len(words) > n {
		return fmt.Errorf("too many words, from %q on", clip(words[n]))
	}
	return nil
}

// badLiteral says how values are written; the usual mistake is a string without quotes.
func badLiteral(word string) error {
	return fmt.Errorf("%q is not a value: write 42, \"text\", true, false or 0x0a0b", clip(word))
}
