package cell

import (
	"bytes"
	"math"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	_ "physalia/internal/rapidseed"
)

// drawBig draws integers around the borders of int64 as often as far from them.
func drawBig(t *rapid.T, label string) *big.Int {
	base := rapid.SampledFrom([]int64{0, math.MaxInt64, math.MinInt64, 1 << 62}).Draw(t, label)
	n := new(big.Int).Mul(big.NewInt(base), big.NewInt(rapid.Int64Range(-2, 2).Draw(t, label+" times")))
	return n.Add(n, big.NewInt(rapid.Int64Range(-2, 2).Draw(t, label+" plus")))
}

func TestIntegersOfAnySize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawBig(t, "a"), drawBig(t, "b")
		v, w := BigInt(a), BigInt(b)
		order, ok := v.Compare(w)
		if !ok || order != a.Cmp(b) || v.Equal(w) != (a.Cmp(b) == 0) {
			t.Fatalf("%v and %v: order %d", v, w, order)
		}
		small, isSmall := v.AsInt64()
		if isSmall != a.IsInt64() || isSmall && small != a.Int64() {
			t.Fatalf("%v as int64: %d, %t", a, small, isSmall)
		}
		if isSmall && v != Int(small) {
			t.Fatalf("%v has two representations", a)
		}
		if v.String() != a.String() || v.Type() != IntType {
			t.Fatalf("%v reads %q", a, v)
		}
		was := new(big.Int).Set(a)
		got, _ := v.AsBigInt()
		got.SetInt64(77)
		a.SetInt64(78)
		if again, _ := v.AsBigInt(); again.Cmp(was) != 0 {
			t.Fatalf("value changed from %v to %v", was, again)
		}
	})
}

func TestValuesOfOtherTypes(t *testing.T) {
	text := []byte("ab")
	b := Bytes(text)
	text[0] = 'x'
	got, ok := b.AsBytes()
	if !ok || string(got) != "ab" {
		t.Errorf("bytes are %q", got)
	}
	got[0] = 'y'
	if again, _ := b.AsBytes(); !bytes.Equal(again, []byte("ab")) || b.RawText() != "ab" {
		t.Errorf("bytes changed to %q", again)
	}
	all := []Value{{}, Int(1), String("ab"), Bool(true), Bytes([]byte("ab")), Bool(false)}
	for i, v := range all {
		_, isInt := v.AsInt64()
		_, isBig := v.AsBigInt()
		_, isString := v.AsString()
		_, isBool := v.AsBool()
		_, isBytes := v.AsBytes()
		n := 0
		for _, is := range []bool{isInt, isString, isBool, isBytes} {
			if is {
				n++
			}
		}
		if isInt != isBig || (n == 1) == v.IsZero() || n > 1 {
			t.Errorf("%v of type %s is of %d types", v, v.Type(), n)
		}
		for j, w := range all {
			order, same := v.Compare(w)
			if same != (v.Type() == w.Type() && !v.IsZero()) || v.Equal(w) != (i == j && i > 0) {
				t.Errorf("%v and %v: order %d, %t", v, w, order, same)
			}
		}
	}
	if order, _ := Bool(false).Compare(Bool(true)); order != -1 {
		t.Error("false is before true")
	}
	if order, _ := String("b").Compare(String("ab")); order != 1 {
		t.Error("strings are ordered by their bytes")
	}
}

func TestValuesReadWell(t *testing.T) {
	for want, v := range map[string]Value{"none": {}, "-3": Int(-3), `"a\n"`: String("a\n"), "true": Bool(true), "0x0aff": Bytes([]byte{10, 255}),
		"36893488147419103232": BigInt(new(big.Int).Lsh(big.NewInt(1), 65))} {
		if v.String() != want {
			t.Errorf("got %s, want %s", v, want)
		}
	}
	if Type(9).String() != "type(9)" || BytesType.String() != "bytes" {
		t.Error("names of types")
	}
}

func TestSizeOfValues(t *testing.T) {
	for _, c := range []struct {
		v    Value
		size int
	}{
		{Int(5), 8}, {Bool(true), 8}, {String(""), 8}, {String("abc"), 11}, {Bytes(make([]byte, 100)), 108},
		{BigInt(new(big.Int).Lsh(big.NewInt(1), 63)), 9}, {BigInt(new(big.Int).Lsh(big.NewInt(-1), 71)), 10},
	} {
		if c.v.Size() != c.size {
			t.Errorf("%s: size %d, want %d", c.v, c.v.Size(), c.size)
		}
	}
}

func TestCheckBounds(t *testing.T) {
	ops := func(n int, o Op) (list []Op) {
		for range n {
			list = append(list, o)
		}
		return list
	}
	key := strings.Repeat("k", KeyBytesMax)
	get := Op{Kind: OpGet, Key: "k"}
	most := new(big.Int).Lsh(big.NewInt(1), IntBitsMax)
	over := BigInt(most)
	most.Sub(most, big.NewInt(1))
	text := func(n int) Value { return String(strings.Repeat("v", n)) }
	put := func(v Value) Txn { return Txn{Then: []Op{{Kind: OpPut, Key: "k", Value: v}}} }
	when := func(c Condition) Txn { return Txn{If: []Condition{c}} }
	for _, c := range []struct {
		name string
		txn  Txn
		want Kind // zero: passes
	}{
		{"nothing", Txn{}, Invalid},
		{"only a condition", when(Condition{Key: "k", Target: OnExistence, Compare: Equal}), 0},
		{"as many as allowed", Txn{If: []Condition{{Key: "k", Target: OnVersion, Compare: Less}}, Then: ops(100, get), Else: ops(27, get)}, 0},
		{"one more", Txn{If: []Condition{{Key: "k", Target: OnVersion, Compare: Less}}, Then: ops(100, get), Else: ops(28, get)}, TooLarge},
		{"longest key", Txn{Then: []Op{{Kind: OpDelete, Key: key}}}, 0},
		{"longer key", Txn{Then: []Op{{Kind: OpDelete, Key: key + "k"}}}, TooLarge},
		{"longer key in a condition", when(Condition{Key: key + "k", Target: OnVersion, Compare: Less}), TooLarge},
		{"no key", Txn{Else: []Op{{Kind: OpGet}}}, Invalid},
		{"no key in a condition", when(Condition{Target: OnExistence, Compare: Equal}), Invalid},
		{"largest value", put(text(ValueBytesMax - 8)), 0},
		{"larger value", put(text(ValueBytesMax - 7)), TooLarge},
		{"largest integer", put(BigInt(most)), 0},
		{"larger integer", put(over), TooLarge},
		{"no value", put(Value{}), Invalid},
		{"largest transaction", Txn{Then: ops(4, Op{Kind: OpPut, Key: "k", Value: text(ValueBytesMax - 9)})}, 0},
		{"larger transaction", Txn{Then: append(ops(4, Op{Kind: OpPut, Key: "k", Value: text(ValueBytesMax - 9)}), get)}, TooLarge},
		{"increment by text", Txn{Then: []Op{{Kind: OpIncrement, Key: "k", Value: String("1")}}}, Invalid},
		{"increment by nothing", Txn{Then: []Op{{Kind: OpIncrement, Key: "k"}}}, Invalid},
		{"increment by too much", Txn{Then: []Op{{Kind: OpIncrement, Key: "k", Value: over}}}, TooLarge},
		{"scan of everything", Txn{Then: []Op{{Kind: OpScan}}}, 0},
		{"largest scan", Txn{Then: []Op{{Kind: OpScan, Key: key, After: key, Limit: ScanLimitMax}}}, 0},
		{"larger scan", Txn{Then: []Op{{Kind: OpScan, Limit: ScanLimitMax + 1}}}, Invalid},
		{"longer prefix", Txn{Then: []Op{{Kind: OpScan, Key: key + "k"}}}, TooLarge},
		{"longer position", Txn{Then: []Op{{Kind: OpScan, After: key + "k"}}}, TooLarge},
		{"operation zero", Txn{Then: []Op{{Key: "k"}}}, Invalid},
		{"unknown operation", Txn{Then: []Op{{Kind: 6, Key: "k"}}}, Invalid},
		{"target zero", when(Condition{Key: "k", Compare: Equal}), Invalid},
		{"unknown target", when(Condition{Key: "k", Target: 8, Compare: Equal}), Invalid},
		{"lease and key", when(Condition{Key: "k", Target: OnHeld, Compare: Equal, Number: 1}), Invalid},
		{"no lease", when(Condition{Target: OnHeld, Compare: Equal}), Invalid},
		{"lease in order", when(Condition{Target: OnHeld, Compare: Less, Number: 1}), Invalid},
		{"lease of no key", when(Condition{Target: OnLease, Compare: Equal, Number: 1}), Invalid},
		{"increment with a lease", Txn{Then: []Op{{Kind: OpIncrement, Key: "k", Value: Int(1), Lease: 1}}}, Invalid},
		{"comparison zero", when(Condition{Key: "k", Target: OnVersion}), Invalid},
		{"unknown comparison", when(Condition{Key: "k", Target: OnVersion, Compare: 7}), Invalid},
		{"existence in order", when(Condition{Key: "k", Target: OnExistence, Compare: Less}), Invalid},
		{"no operand", when(Condition{Key: "k", Target: OnValue, Compare: Less}), Invalid},
		{"large operand", when(Condition{Key: "k", Target: OnValue, Compare: Less, Value: text(ValueBytesMax)}), TooLarge},
	} {
		err := c.txn.Check()
		if KindOf(err) != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	err := (&Txn{Then: ops(3, get), Else: []Op{get, {Kind: OpGet}}}).Check()
	if err == nil || !strings.Contains(err.Error(), "else 1: key has 0 bytes") {
		t.Errorf("the error does not name the place: %v", err)
	}
}
