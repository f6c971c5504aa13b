package grant

import (
	"crypto/ed25519"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"physalia/cell"
	"physalia/internal/wire"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files instead of comparing with them")

// The reference authoriser works differently from the real one: it knows no grants, only single permissions, spelled out for every verb,
// cell and key of a small world, and takes a request apart into the single things that it would tell or change.

// permission is one verb on one key of one cell.
type permission struct {
	verb      Verbs
	cell, key string
}

// The small world. Its names are such that some begin like others, and one is the beginning of another.
var (
	worldCells = []string{"a", "ab", "abc", "b", "ba"}
	worldKeys  = []string{"k", "k/1", "k/12", "k/2", "l", "l/1"}
)

// spelled lists all permissions that grants give in the small world.
func spelled(grants []Grant) map[permission]bool {
	all := map[permission]bool{}
	for _, g := range grants {
		for _, c := range worldCells {
			if g.Prefix && !strings.HasPrefix(c, g.Cell) || !g.Prefix && c != g.Cell {
				continue
			}
			for _, k := range worldKeys {
				for bit := range verbCount {
					if v := Verbs(1) << bit; g.Verbs&v != 0 && strings.HasPrefix(k, g.Key) {
						all[permission{v, c, k}] = true
					}
				}
			}
		}
	}
	return all
}

// reference decides about a transaction in the small world.
func reference(grants []Grant, c string, t *cell.Txn) bool {
	have := spelled(grants)
	any := func(verbs ...Verbs) bool {
		return slices.ContainsFunc(worldKeys, func(k string) bool {
			return slices.ContainsFunc(verbs, func(v Verbs) bool { return have[permission{v, c, k}] })
		})
	}
	for _, cond := range t.If {
		switch {
		case cond.Target == cell.OnHeld:
			if !any(Read, Lease) {
				return false
			}
		case cond.Target == cell.OnVersion && cond.Compare == cell.GreaterEqual && cond.Number == 0:
		case !have[permission{Read, c, cond.Key}]:
			return false
		}
	}
	for _, o := range slices.Concat(t.Then, t.Else) {
		switch o.Kind {
		case cell.OpGet:
			if !have[permission{Read, c, o.Key}] {
				return false
			}
		case cell.OpScan: // of every key that it could ever show
			for _, k := range worldKeys {
				if strings.HasPrefix(k, o.Key) && !have[permission{Read, c, k}] {
					return false
				}
			}
		default:
			if !have[permission{Write, c, o.Key}] || o.Lease != 0 && !have[permission{Lease, c, o.Key}] {
				return false
			}
		}
	}
	if len(t.If)+len(t.Then)+len(t.Else) == 0 {
		return any(Write)
	}
	return any(Read, Write, Lease)
}

func drawGrants(t *rapid.T) (grants []Grant) {
	for range rapid.IntRange(0, 4).Draw(t, "grants") {
		g := Grant{Verbs: Verbs(rapid.IntRange(1, anyVerb).Draw(t, "verbs")), Prefix: rapid.Bool().Draw(t, "prefix"),
			Key: rapid.SampledFrom([]string{"", "", "k", "k/", "k/1", "l"}).Draw(t, "key")}
		g.Cell = rapid.SampledFrom(append([]string{"b"}, worldCells...)).Draw(t, "cell")
		if g.Prefix && rapid.Bool().Draw(t, "all cells") {
			g.Cell = ""
		}
		grants = append(grants, g)
	}
	return grants
}

func drawOps(t *rapid.T, label string) (ops []cell.Op) {
	for range rapid.IntRange(0, 3).Draw(t, label) {
		o := cell.Op{Kind: cell.OpKind(rapid.IntRange(1, 5).Draw(t, "kind")), Key: rapid.SampledFrom(worldKeys).Draw(t, "key")}
		if o.Kind == cell.OpPut && rapid.Bool().Draw(t, "leased") {
			o.Lease = 7
		}
		if o.Kind == cell.OpScan { // the beginnings of keys whose grants the small world can tell apart
			o.Key = rapid.SampledFrom([]string{"k/1", "k/12", "k/2", "l/1"}).Draw(t, "beginning")
		}
		ops = append(ops, o)
	}
	return ops
}

// TestTxnAgainstReference: whatever the grants and the transaction, the decision is that of the naive authoriser, and a refusal names
// something that is really missing.
func TestTxnAgainstReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		grants, id := drawGrants(t), rapid.SampledFrom(worldCells).Draw(t, "of cell")
		var txn cell.Txn
		for range rapid.IntRange(0, 2).Draw(t, "conditions") {
			c := cell.Condition{Key: rapid.SampledFrom(worldKeys).Draw(t, "key"), Target: cell.Target(rapid.IntRange(1, 7).Draw(t, "target")),
				Compare: cell.Comparison(rapid.IntRange(1, 6).Draw(t, "compare")), Number: uint64(rapid.IntRange(0, 1).Draw(t, "number"))}
			if c.Target == cell.OnHeld {
				c.Key = ""
			}
			txn.If = append(txn.If, c)
		}
		txn.Then, txn.Else = drawOps(t, "then"), drawOps(t, "else")
		rights := &Rights{Who: "u", Grants: grants, Until: 100}
		refusal := rights.Txn(50, cell.ID(id), &txn)
		if want := reference(grants, id, &txn); (refusal == nil) != want {
			t.Fatalf("%v on %s with %v: refused for %v, the reference allows it: %v", txn, id, grants, refusal, want)
		}
		if refusal == nil {
			return
		}
		have := spelled(grants)
		about := func(verbs Verbs) (n int) {
			for p := range have {
				if p.cell == id && p.verb&verbs != 0 {
					n++
				}
			}
			return n
		}
		switch refusal.Reason {
		case NoCell:
			if about(anyVerb) != 0 {
				t.Fatalf("%v: there are grants about %s: %v", refusal.Reason, id, grants)
			}
		case NoVerb:
			if about(anyVerb) == 0 || about(refusal.Need) != 0 {
				t.Fatalf("%v, need %v: %v", refusal.Reason, refusal.Need, grants)
			}
		case NoKey:
			if about(refusal.Need) == 0 || have[permission{refusal.Need, id, refusal.Key}] {
				t.Fatalf("%v, need %v on %q: %v", refusal.Reason, refusal.Need, refusal.Key, grants)
			}
		default:
			t.Fatalf("refused for %v", refusal.Reason)
		}
		for _, now := range []int64{100, 101} {
			if r := rights.Txn(now, cell.ID(id), &txn); r == nil || r.Reason != TokenExpired {
				t.Fatalf("at %d: %v", now, r)
			}
		}
	})
}

// TestMoreGrantsAllowMore: a grant never forbids anything.
func TestMoreGrantsAllowMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		few, id := drawGrants(t), cell.ID(rapid.SampledFrom(worldCells).Draw(t, "of cell"))
		more := &Rights{Grants: append(slices.Clone(few), drawGrants(t)...), Until: 100}
		less := &Rights{Grants: few, Until: 100}
		txn := cell.Txn{Then: drawOps(t, "then")}
		if less.Txn(1, id, &txn) == nil && more.Txn(1, id, &txn) != nil {
			t.Fatalf("%v allows %v, %v does not", few, txn, more.Grants)
		}
	})
}

// TestLeases: what may be done with leases does not depend on keys, but for revoking, which deletes any.
func TestLeases(t *testing.T) {
	for text, want := range map[string][3]Reason{ // hold, revoke, list
		"lease c":       {Allowed, Allowed, Allowed},
		"lease c k/":    {Allowed, NoKey, Allowed},
		"read c k/":     {NoVerb, NoVerb, Allowed},
		"write c":       {NoVerb, NoVerb, NoVerb},
		"lease,read d*": {NoCell, NoCell, NoCell},
		"lease c*":      {Allowed, Allowed, Allowed},
	} {
		rights := &Rights{Grants: mustParse(t, text), Until: 100}
		for act, reason := range want {
			got := Allowed
			if r := rights.Leases(1, "c", LeaseAct(act)); r != nil {
				got = r.Reason
			}
			if got != reason {
				t.Errorf("%s: %d is %q, want %q", text, act, got, reason)
			}
		}
	}
}

func mustParse(t testing.TB, texts ...string) (grants []Grant) {
	t.Helper()
	for _, text := range texts {
		more, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		grants = append(grants, more...)
	}
	return grants
}

// TestControl: what a method of the control plane needs.
func TestControl(t *testing.T) {
	append1 := func(m wire.Message) []byte { return m.Append(nil) }
	create := append1(&wire.CreateCells{Cells: []cell.ID{"vol-1", "vol-2"}})
	remove := append1(&wire.DeleteCells{Drops: []wire.Drop{{Cell: "vol-1"}, {Cell: "db-1"}}})
	for name, test := range map[string]struct {
		grants []string
		method string
		params []byte
		want   Reason
	}{
		"lookup needs nothing":        {nil, wire.MethodLookup, nil, Allowed},
		"create":                      {[]string{"manage vol-*"}, wire.MethodCreateCells, create, Allowed},
		"create, one of them":         {[]string{"manage vol-1"}, wire.MethodCreateCells, create, NoCell},
		"create with another verb":    {[]string{"read,write,locate *", "admin,view *"}, wire.MethodCreateCells, create, NoVerb},
		"delete, the second":          {[]string{"manage vol-*"}, wire.MethodDeleteCells, remove, NoCell},
		"delete, by two grants":       {[]string{"manage vol-*,db-1"}, wire.MethodDeleteCells, remove, Allowed},
		"locate":                      {[]string{"locate vol-*"}, wire.MethodLocate, append1(&wire.LocateVolume{Cell: "vol-7"}), Allowed},
		"replace":                     {[]string{"locate vol-*"}, wire.MethodReplaceMember, append1(&wire.ReplaceMember{Cell: "vol-7"}), NoVerb},
		"list":                        {[]string{"manage vol-*"}, wire.MethodListCells, append1(&wire.ListCells{Prefix: "vol-1"}), Allowed},
		"list more":                   {[]string{"manage vol-*"}, wire.MethodListCells, append1(&wire.ListCells{Prefix: "vo"}), NoCell},
		"list by one name":            {[]string{"manage vol-1"}, wire.MethodListCells, append1(&wire.ListCells{Prefix: "vol-1"}), NoCell},
		"list with view":              {[]string{"view *"}, wire.MethodListCells, append1(&wire.ListCells{}), Allowed},
		"status":                      {[]string{"view *"}, wire.MethodStatus, nil, Allowed},
		"pause with view":             {[]string{"view,manage *"}, wire.MethodPause, nil, NoVerb},
		"pause":                       {[]string{"admin *"}, wire.MethodPause, nil, Allowed},
		"what control processes tell": {[]string{"admin,view,manage,read,write *"}, wire.MethodPropose, nil, ControlOnly},
		"what nobody knows":           {[]string{"admin *"}, "lifecycle.new", nil, ControlOnly},
	} {
		rights := &Rights{Grants: mustParse(t, test.grants...), Until: 100}
		got := Allowed
		refusal, err := rights.Control(1, test.method, test.params)
		if refusal != nil {
			got = refusal.Reason
			e := refusal.AsError(test.method)
			if !errors.Is(e, cell.Denied) || e.Detail == "" || e.Hint == "" || !errors.As(e, &refusal) {
				t.Errorf("%s: %v", name, e)
			}
		}
		if err != nil || got != test.want {
			t.Errorf("%s: %q, want %q (%v)", name, got, test.want, err)
		}
		if r, err := Everything("boss").Control(1, test.method, test.params); r != nil || err != nil {
			t.Errorf("%s: an operator is refused: %v, %v", name, r, err)
		}
	}
	rights := &Rights{Grants: mustParse(t, "manage *"), Until: 100}
	if refusal, err := rights.Control(1, wire.MethodCreateCells, []byte{0x91, 0xc1}); refusal == nil && err == nil {
		t.Error("parameters that cannot be read are allowed")
	}
}

// TestParse: the written form is one to one, and what is wrong is said.
func TestParse(t *testing.T) {
	for text, want := range map[string][]Grant{
		"read *":                     {{Verbs: Read, Prefix: true}},
		"read,write vol-*,db-1 p/0/": {{Verbs: Read | Write, Cell: "vol-", Prefix: true, Key: "p/0/"}, {Verbs: Read | Write, Cell: "db-1", Key: "p/0/"}},
		"write c a key, with spaces": {{Verbs: Write, Cell: "c", Key: "a key, with spaces"}},
	} {
		got, err := Parse(text)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		for i := range got {
			if again, err := Parse(got[i].String()); err != nil || again[0] != got[i] {
				t.Errorf("%s becomes %s, which is %+v, %v", text, got[i], again, err)
			}
		}
	}
	for _, text := range []string{"", "read", "red *", "read, *", " *", "read ,", "read a*b", "read -x", "admin vol-*", "view db-1", "manage * p/", "read * " + strings.Repeat("k", cell.KeyBytesMax+1)} {
		if got, err := Parse(text); cell.KindOf(err) != cell.Invalid {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

// sampleToken has every field set.
func sampleToken() *Token {
	return &Token{Number: 0x1122334455667788, Colony: "eu1", Name: "blockstore", Holder: "bs-1", Issued: 1795348800, Expires: 1795435200,
		Grants: []Grant{{Verbs: Read | Write | Lease, Cell: "vol-", Prefix: true, Key: "p/"}, {Verbs: Admin | View, Prefix: true}}}
}

func sampleKey(b byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = b
	return ed25519.NewKeyFromSeed(seed)
}

func public(keys ...ed25519.PrivateKey) (all []ed25519.PublicKey) {
	for _, k := range keys {
		all = append(all, k.Public().(ed25519.PublicKey))
	}
	return all
}

// TestGoldenToken fixes the format: tokens that were issued must count after an upgrade, and a signature is of exact bytes.
func TestGoldenToken(t *testing.T) {
	text, err := Sign(sampleToken(), sampleKey(1))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join("testdata", "token.txt")
	if *rewrite {
		if err := os.WriteFile(name, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil || text+"\n" != string(want) {
		t.Fatalf("the token is\n%s\n%s has\n%s (%v)", text, name, want, err)
	}
	got, why := Open(string(want), public(sampleKey(2), sampleKey(1)))
	if why != Allowed || got.String() != "blockstore/1122334455667788" || !slices.Equal(got.Grants, sampleToken().Grants) {
		t.Errorf("%+v, %v", got, why)
	}
}

// TestOpen: each way to be no good has its reason.
func TestOpen(t *testing.T) {
	text, err := Sign(sampleToken(), sampleKey(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, why := Open(text, public(sampleKey(2))); why != UnknownKey {
		t.Errorf("another key: %v", why)
	}
	for _, bad := range []string{"", "phy1.", "phy2." + text[5:], text + strings.Repeat("A", textMax), text[:40], text[5:], strings.ToUpper(text)} {
		if got, why := Open(bad, public(sampleKey(1))); why != BadToken || got != nil {
			t.Errorf("%.20q: %v", bad, why)
		}
	}
	// No change of a single character leaves it good.
	for i := len(magic); i < len(text); i++ {
		other := []byte(text)
		if other[i] = 'A'; text[i] == 'A' {
			other[i] = 'B'
		}
		if got, why := Open(string(other), public(sampleKey(1))); why == Allowed || got != nil {
			t.Errorf("with character %d changed it still counts", i)
		}
	}
	for name, change := range map[string]func(*Token){
		"no grants":      func(t *Token) { t.Grants = nil },
		"too many":       func(t *Token) { t.Grants = slices.Repeat(t.Grants, GrantsMax) },
		"an empty grant": func(t *Token) { t.Grants = []Grant{{Prefix: true}} },
		"too long":       func(t *Token) { t.Expires = t.Issued + LifeMax + 1 },
		"backwards":      func(t *Token) { t.Expires = t.Issued },
		"no name":        func(t *Token) { t.Name = "" },
		"no colony":      func(t *Token) { t.Colony = "" },
		"holder":         func(t *Token) { t.Holder = "a b" },
		"too large": func(t *Token) {
			t.Grants = slices.Repeat([]Grant{{Verbs: Read, Cell: strings.Repeat("c", 60), Key: strings.Repeat("k", 200)}}, GrantsMax)
		},
	} {
		token := sampleToken()
		change(token)
		if text, err := Sign(token, sampleKey(1)); cell.KindOf(err) != cell.Invalid {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

// TestAdmit: a token counts in its colony, for its holder, in its time.
func TestAdmit(t *testing.T) {
	token := sampleToken()
	for name, test := range map[string]struct {
		colony, client string
		now            int64
		want           Reason
	}{
		"well":       {"eu1", "bs-1", token.Issued, Allowed},
		"colony":     {"eu2", "bs-1", token.Issued, OtherColony},
		"holder":     {"eu1", "bs-2", token.Issued, OtherHolder},
		"last":       {"eu1", "bs-1", token.Expires - 1, Allowed},
		"expired":    {"eu1", "bs-1", token.Expires, TokenExpired},
		"slow clock": {"eu1", "bs-1", token.Issued - skew, Allowed},
		"not yet":    {"eu1", "bs-1", token.Issued - skew - 1, TokenNotYet},
	} {
		rights := token.Admit(test.colony, test.client, test.now)
		got := rights.Lack
		if r := rights.Explain(test.now, "vol-1"); got == Allowed && r != nil || got != Allowed && (r == nil || r.Reason != got) {
			t.Errorf("%s: %v", name, r)
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
	token.Holder = ""
	if rights := token.Admit("eu1", "anybody", token.Issued); rights.Lack != Allowed {
		t.Error(rights.Lack)
	}
}

// FuzzOpen: whatever is shown as a token, nothing that was not signed counts, and what is read is bounded.
func FuzzOpen(f *testing.F) {
	key := sampleKey(1)
	text, err := Sign(sampleToken(), key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("phy1.AQ")
	f.Fuzz(func(t *testing.T, input string) {
		if got, why := Open(input, public(key)); got != nil && strings.TrimSpace(input) != text || (got == nil) == (why == Allowed) {
			t.Fatalf("%q counts: %+v, %v", input, got, why)
		}
	})
}

// FuzzBody: what can be signed has one meaning, which the encoding keeps, and nothing out of bounds is read. Signing is left out, for a
// fuzzer cannot do it.
func FuzzBody(f *testing.F) {
	pub := public(sampleKey(1))[0]
	body := sampleToken().appendBody(nil, pub)[1+keyNumberLen:]
	for n := range len(body) + 1 {
		f.Add(body[:n])
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		var first, second Token
		if !first.decode(input) || first.Check() != nil {
			return
		}
		if again := first.appendBody(nil, pub)[1+keyNumberLen:]; !second.decode(again) || second.String() != first.String() || !slices.Equal(first.Grants, second.Grants) {
			t.Fatalf("%+v became %+v", first, second)
		}
	})
}

// An allowed request costs no allocation, whatever it holds.
func BenchmarkAllowedTxn(b *testing.B) {
	rights := &Rights{Who: "u", Grants: mustParse(b, "read *", "read,write,lease db-*", "read,write,lease vol-* p/"), Until: 100}
	txn := cell.Txn{If: []cell.Condition{{Key: "p/0/primary", Target: cell.OnValue, Compare: cell.Equal, Value: cell.String("a")}},
		Then: []cell.Op{{Kind: cell.OpPut, Key: "p/0/primary", Value: cell.String("b")}, {Kind: cell.OpGet, Key: "p/0/replica"}}}
	b.ReportAllocs()
	for b.Loop() {
		if r := rights.Txn(1, "vol-17", &txn); r != nil {
			b.Fatal(r)
		}
	}
}

// TestAllowedCostsNothing holds the benchmark's promise in every run.
func TestAllowedCostsNothing(t *testing.T) {
	rights := &Rights{Who: "u", Grants: mustParse(t, "read,write,lease vol-* p/"), Until: 100}
	txn := cell.Txn{If: []cell.Condition{{Key: "p/1", Target: cell.OnExistence, Compare: cell.Equal}}, Then: []cell.Op{{Kind: cell.OpDelete, Key: "p/1"}}}
	if n := testing.AllocsPerRun(100, func() {
		if rights.Txn(1, "vol-1", &txn) != nil || rights.Leases(1, "vol-1", HoldLease) != nil || rights.Explain(1, "vol-1") != nil {
			t.Error("refused")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
