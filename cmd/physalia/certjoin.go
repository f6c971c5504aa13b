package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"physalia/cell"
	"physalia/cmd/physalia/operator"
	"physalia/internal/pki"
	"physalia/internal/wire"
)

// Joining is for machines that come and go: an operator has a join token made, and the new machine makes its own key and gets a
// certificate for it. The token is a secret until it is used; it is read from a file or from standard input, never from the command
// line, which everybody on a machine can see.

// certJoinToken has an invitation made by a control process that signs.
func (a *app) certJoinToken() *cobra.Command {
	var id pki.Identity
	var role, out string
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "join-token NAME",
		Short: "Let one process get its first certificate from the control plane",
		Long: "Have the control plane make a join token, and print it, or write it to --out with mode 0600. Whoever brings it to\n" +
			"`physalia cert join` gets a certificate for exactly the NAME and role (and brick and color) given here, once. It needs an\n" +
			"operator's certificate, and a control process that was started with --listen-join and --join-ca. It is remembered that a token\n" +
			"was used, also after a restart; a token that is lost expires.",
		Args: args("NAME", 1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			op := cmd.CommandPath()
			id.Role, id.Name, id.Colony = pki.Role(role), given[0], a.colony
			// Who asks is of the colony that he asks, so his certificate says which one it is. The control process compares it with its own.
			if id.Colony == "" {
				id.Colony = pki.Inspect(a.certs.Dir, time.Now()).Identity.Colony
			}
			if err := id.Check(); err != nil {
				return cell.AsError(op, cell.Invalid, err)
			}
			ctx, cancel := a.limited(cmd.Context())
			defer cancel()
			var answer wire.Invited
			if err := a.operator().Ask(ctx, op, wire.MethodInvite, &wire.Invite{Identity: id.String(), Life: uint32(life / time.Second)}, &answer); err != nil {
				return err
			}
			// With --out the secret goes there and nowhere else. Without, it is all that goes to standard output, so that it can be piped
			// to the machine that needs it; what people want to know beside it goes to standard error.
			if out != "" {
				if err := writeSecret(op, out, answer.Token+"\n"); err != nil {
					return err
				}
			} else if a.output != asJSON {
				fmt.Fprintln(a.stdout, answer.Token)
			}
			expires := time.UnixMilli(int64(answer.Expires)).UTC()
			a.note("for %s, until %s, once: physalia cert join FILE --from %s", id, expires.Format(time.RFC3339), answer.Addr)
			if a.output != asJSON {
				return nil
			}
			// A program gets one document, with the token only if it was not put into a file.
			view := map[string]any{"identity": id.String(), "from": answer.Addr, "expires": expires, "file": out}
			if out == "" {
				view["token"] = answer.Token
			}
			return a.emit(view, nil, nil)
		},
	}
	f := cmd.Flags()
	// Servers are what comes and goes; the others are issued by hand as a rule.
	f.StringVar(&role, "role", string(pki.Server), "`role`: server, control, client or operator")
	f.StringVar(&id.Brick, "brick", "", "a server's `brick`")
	f.StringVar(&id.Color, "color", "", "a server's `color`")
	f.StringVar(&out, "out", "", "`file` that it is written to, which must not exist; empty: standard output")
	f.DurationVar(&life, "life", time.Hour, "`time` in which it has to be used, 1 minute to 7 days")
	return cmd
}

// certJoin makes a key and has it certified.
func (a *app) certJoin() *cobra.Command {
	var from, out string
	cmd := &cobra.Command{
		Use:   "join FILE",
		Short: "Get a first certificate with a join token",
		Long: "Make a key, have it certified by the control plane with the join token in FILE (-: standard input), and write the directory that\n" +
			"--certs then names. The control plane proves itself by the authority's fingerprint in the token, so nothing needs to be trusted\n" +
			"before. The key never leaves this machine. A token can be used once: if that fails half way, have a new one made.",
		Args: args("FILE", 1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			op := cmd.CommandPath()
			if err := checkAddresses(op, setting{"from", from}); err != nil {
				return err
			}
			// What is no token is told from one that is not known, before anybody is asked.
			token, err := a.readJoinToken(op, given[0])
			if err != nil {
				return err
			}
			// A token must not be used up for a directory that cannot be written: all that this machine can find wrong is found first.
			// What is left to go wrong afterwards is the connection, and then the control plane's record says whether it was signed.
			for _, name := range []string{"tls.crt", "tls.key"} {
				if _, err := os.Lstat(filepath.Join(out, name)); !errors.Is(err, os.ErrNotExist) {
					return &cell.Error{Op: op, Kind: cell.Exists, Detail: filepath.Join(out, name) + " exists, and is not overwritten", Hint: "choose another --out"}
				}
			}
			if err := os.MkdirAll(out, 0o700); err != nil {
				return usage(op, "choose another --out", "%v", err)
			}
			ctx, cancel := a.limited(cmd.Context())
			defer cancel()
			id, err := operator.Join(ctx, token, from, out)
			if err != nil {
				return cell.AsError(op, cell.Internal, err)
			}
			a.note("%s is %s", out, id)
			return a.emitReports([]pki.Report{pki.Inspect(out, time.Now())})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "`address` of the control plane's join port, as cert join-token tells")
	cmd.Flags().StringVar(&out, "out", "certs", "`directory` that is made")
	return cmd
}

// readJoinToken reads a join token from a file or from standard input.
func (a *app) readJoinToken(op, name string) (token pki.JoinToken, err error) {
	// Its text is bounded like everything that is read, and goes into no error.
	from := a.stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return token, usage(op, "name the file that holds the token, or - for standard input", "%v", err)
		}
		defer file.Close()
		from = file
	}
	text, err := io.ReadAll(io.LimitReader(from, wire.TokenBytesMax))
	if err != nil {
		return token, usage(op, "check the file", "%v", err)
	}
	return pki.ParseJoinToken(string(text))
}
