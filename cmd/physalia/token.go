package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"physalia/internal/access"
	"physalia/internal/grant"
	"physalia/internal/pki"
)

// tokenCommand is the noun: what clients may do. Like those of cert, its commands work on files and ask nobody.
func (a *app) tokenCommand() *cobra.Command {
	// Both verbs take --ca: who issues has it, and who only wants to see what he was given may name his certificates instead.
	noun := &cobra.Command{
		Use:   "token",
		Short: "Say what a client's certificate may do",
		Long: "Say what a client's certificate may do. A certificate of the role client proves who somebody is, and alone allows nothing but to\n" +
			"find cells; what it may do says a token, a small signed file that a program names with --token. Operators need none.\n\n" +
			"  physalia token issue blockstore --grant \"read,write,lease,locate vol-*\" --holder blockstore --out blockstore.token\n" +
			"  physalia token show blockstore.token\n" +
			"  physalia kv get vol-1 owner --certs certs/blockstore --token blockstore.token\n\n" + verbHelp,
		Args: cobra.ArbitraryArgs,
		RunE: group,
	}
	noun.AddCommand(a.tokenIssue(), a.tokenShow())
	return noun
}

// verbHelp says what a grant may have.
const verbHelp = `A grant is "VERBS CELLS [KEYPREFIX]". CELLS are names with commas between them; one that ends in * is every cell whose name
begins so. KEYPREFIX limits read, write and lease to keys that begin so. The verbs:

  read     get and scan keys, and state conditions on them
  write    put, delete and increment keys; one learns what one has replaced or removed
  lease    grant and keep alive leases, attach keys to them; to revoke one also needs the verb without KEYPREFIX
  locate   tell the control plane where a volume's users are
  manage   create, delete and list cells, and replace their members
  view     see servers, instances, health, and what the control plane waits for (only on *)
  admin    the red button, drains, recoveries, backups, the audit (only on *)`

// There is no list of tokens: what was issued is known to who holds it, and to the record of control processes as far as it was used.
// That is why a token has a name and a number, and a short life.
//
// tokenIssue signs a token with the key beside the authority.
func (a *app) tokenIssue() *cobra.Command {
	var home, holder, out string
	var grants []string
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "issue NAME",
		Short: "Issue a token",
		Long: "Issue a token, and print it, or write it to --out with mode 0600. NAME is for people: it stands in records and errors, beside a\n" +
			"random number. Whoever has the token and a client's certificate (--holder: that client's) may do what it grants until it expires;\n" +
			"there is no taking it back but to rotate the keys. The key is in the authority's directory, made when it is first asked for;\n" +
			"afterwards `physalia cert renew` brings its public half to servers and control processes.\n\n" + verbHelp,
		Args: args("NAME", 1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			// The key lies beside the authority's, and is another one: a machine that issues tokens does not need ca.key.
			h, err := pki.OpenHome(home)
			if err != nil {
				return err
			}
			t := &grant.Token{Colony: h.Signer.Colony(), Name: given[0], Holder: holder}
			// A grant that names several cells becomes several; the bound is on what they become.
			for _, text := range grants {
				more, err := grant.Parse(text)
				if err != nil {
					return err
				}
				t.Grants = append(t.Grants, more...)
			}
			keys, err := h.TokenKeys()
			if err != nil {
				return err
			}
			// During a rotation the first key signs, and all of them count.
			text, err := sign(t, keys[0], time.Now(), life)
			if err != nil {
				return err
			}
			// Standard output has the token and nothing else, so that it can be piped into a secret's store.
			if out == "" {
				_, err := fmt.Fprintln(a.stdout, text)
				return err
			}
			if err := writeSecret(cmd.CommandPath(), out, text+"\n"); err != nil {
				return err
			}
			return a.emitToken(t, out, grant.Allowed)
		},
	}
	f := cmd.Flags()
	f.StringVar(&home, "ca", "ca", "`directory` of the colony's authority")
	f.StringArrayVar(&grants, "grant", nil, "`what` it allows, \"VERBS CELLS [KEYPREFIX]\"; may be given several times")
	f.StringVar(&holder, "holder", "", "`name` of the client's certificate that it counts with; empty: any client's")
	f.StringVar(&out, "out", "", "`file` that it is written to, which must not exist; empty: standard output")
	f.DurationVar(&life, "life", 24*time.Hour, "`time` that it is valid, at most 30 days")
	return cmd
}

// Two tokens of the same name and content still have different numbers, so that a record tells which of them was used.
//
// sign numbers and dates a token, and signs it.
func sign(t *grant.Token, key ed25519.PrivateKey, now time.Time, life time.Duration) (string, error) {
	// Whole seconds are enough, and what is signed has no fractions.
	var number [8]byte
	if _, err := rand.Read(number[:]); err != nil {
		return "", err
	}
	t.Number, t.Issued, t.Expires = binary.BigEndian.Uint64(number[:]), now.Unix(), now.Add(life).Unix()
	return grant.Sign(t, key)
}

// writeSecret writes a file for its owner alone, and writes over none.
func writeSecret(op, name, text string) error {
	// A file that exists may be open to others, and be somebody's: it is left alone.
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return usage(op, "name a file that does not exist", "%v", err)
	}
	if _, err := io.WriteString(file, text); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}

// A token's text is as good as what it grants, so no output and no error of this program has it but that of token issue.
//
// tokenShow verifies a token and prints what it says, never its text.
func (a *app) tokenShow() *cobra.Command {
	var home string
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Verify a token and show what it grants",
		Long: "Verify a token and show what it grants, by the keys of the authority (--ca), or with --certs by those in the directory of a server\n" +
			"or a control process. A token that does not count ends with exit 9.",
		Args:        args("FILE", 1, 1),
		Annotations: readOnly,
		RunE: func(cmd *cobra.Command, given []string) error {
			text, err := access.ReadToken(given[0])
			if err != nil {
				return err
			}
			keys, err := a.tokenKeys(home)
			if err != nil {
				return err
			}
			t, why := grant.Open(text, keys)
			// What an expired one granted is shown before it is said to have expired; of one that nobody has signed nothing is shown.
			if why == grant.Allowed {
				if t.Expires <= time.Now().Unix() {
					why = grant.TokenExpired
				}
				if err := a.emitToken(t, given[0], why); err != nil {
					return err
				}
			}
			if why == grant.Allowed {
				return nil
			}
			return (&grant.Refusal{Reason: why, Who: given[0]}).AsError(cmd.CommandPath())
		},
	}
	cmd.Flags().StringVar(&home, "ca", "ca", "`directory` of the colony's authority; not asked with --certs")
	return cmd
}

// tokenKeys are the public keys that a token is verified with.
func (a *app) tokenKeys(home string) (keys []ed25519.PublicKey, err error) {
	// A directory of certificates has the public keys alone, which is all that is needed.
	if a.certs.Dir != "" {
		files, err := pki.ReadFiles(a.certs.Dir)
		if err != nil {
			return nil, err
		}
		return pki.ParseTokenKeys(files.Tokens)
	}
	h, err := pki.OpenHome(home)
	if err != nil {
		return nil, err
	}
	private, err := h.TokenKeys()
	for _, k := range private {
		keys = append(keys, k.Public().(ed25519.PublicKey))
	}
	return keys, err
}

// tokenView is a token as -o json shows it, without its text.
type tokenView struct {
	Token   string    `json:"token"` // name and number
	Colony  string    `json:"colony"`
	Holder  string    `json:"holder,omitempty"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
	Grants  []string  `json:"grants"`
	File    string    `json:"file"`
	Why     string    `json:"does_not_count,omitempty"`
}

// emitToken shows a token by its name and number, which are no secret.
func (a *app) emitToken(t *grant.Token, file string, why grant.Reason) error {
	v := tokenView{Token: t.String(), Colony: t.Colony, Holder: t.Holder, Issued: time.Unix(t.Issued, 0).UTC(), Expires: time.Unix(t.Expires, 0).UTC(), File: file, Why: why.String()}
	for _, g := range t.Grants {
		v.Grants = append(v.Grants, g.String())
	}
	// Without a holder it is good for whoever finds it, as long as he has some client's certificate.
	holder := v.Holder
	if holder == "" {
		holder = "any client"
	}
	// Times are in UTC like everywhere, since a token is used elsewhere than it is issued.
	return a.emit(v, []string{"TOKEN", "COLONY", "HOLDER", "EXPIRES", "GRANTS"},
		[][]string{{v.Token, v.Colony, holder, v.Expires.Format(time.RFC3339), strings.Join(v.Grants, "; ")}})
}
