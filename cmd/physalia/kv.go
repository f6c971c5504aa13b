package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"physalia/cell"
	"physalia/client"
)

// The kv commands are the client library at the command line. Each run is a client of its own with one request; a write
// that ends with exit 7 may have been applied, and the next command should be a read.

// users holds the flags of commands that use cells rather than the control plane.
type users struct {
	servers []string
	stale   bool
}

// register adds the flags to a noun, for all its verbs.
func (u *users) register(noun *cobra.Command) {
	noun.PersistentFlags().StringSliceVar(&u.servers, "server", nil,
		"client `addresses` of servers to ask for routes when the control plane does not answer")
}

// staleFlag adds --stale to a verb that only reads.
func (u *users) staleFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&u.stale, "stale", false, "read from any member: a consistent but perhaps older state")
}

// option is how to read.
func (u *users) option() client.ReadOption {
	if u.stale {
		return client.Stale
	}
	return client.Linearizable
}

// use makes a client, lends it to f for as long as --timeout allows, and closes it.
func (a *app) use(ctx context.Context, u *users, f func(context.Context, *client.Client) error) error {
	ctx, cancel := a.limited(ctx)
	defer cancel()
	c, err := client.New(ctx, client.Config{Colony: a.colony, Control: a.controlPlane, Servers: u.servers, CallTimeout: a.timeout,
		CertsDir: a.certs.Dir, PlainText: a.certs.PlainText, TokenFile: a.token})
	if err != nil {
		return err
	}
	defer c.Close()
	return f(ctx, c)
}

// kvCommand is the noun. Its verbs share one set of flags: only one of them runs.
func (a *app) kvCommand() *cobra.Command {
	var u users
	noun := &cobra.Command{
		Use:   "kv",
		Short: "Read and write the keys of a cell",
		Args:  cobra.ArbitraryArgs,
		RunE:  group,
	}
	u.register(noun)
	noun.AddCommand(a.kvGet(&u), a.kvPut(&u), a.kvDelete(&u), a.kvTxn(&u), a.kvScan(&u), a.kvLease(&u))
	return noun
}

// entryHeader names the columns of entryRow.
var entryHeader = []string{"KEY", "TYPE", "VALUE", "VERSION", "MODIFIED", "CREATED"}

// entryRow is a key as a row of a table; the value is a literal that a transaction would take.
func entryRow(e cell.Entry) []string {
	return []string{showKey(e.Key), e.Value.Type().String(), e.Value.String(), fmt.Sprint(e.Version), fmt.Sprint(e.ModRevision), fmt.Sprint(e.CreateRevision)}
}

// emitEntries prints keys with the revision at which they were read. The JSON document always has all three fields, also when
// there are no keys, so that programs need no special case.
func (a *app) emitEntries(entries []cell.Entry, revision cell.Revision, more bool) error {
	documents, rows := []entryDocument{}, [][]string{}
	for _, e := range entries {
		documents, rows = append(documents, describeEntry(e)), append(rows, entryRow(e))
	}
	return a.emit(map[string]any{"revision": revision, "entries": documents, "more": more}, entryHeader, rows)
}

// kvGet reads several keys in one transaction, so that they are of one moment. That some do not exist is an answer, but not
// the one that was asked for, hence exit 4; --raw is for scripts that want one value and nothing else.
func (a *app) kvGet(u *users) *cobra.Command {
	var raw bool
	cmd := &cobra.Command{
		Use:         "get CELL KEY...",
		Short:       "Read keys, all at one moment",
		Long:        "Read keys, all at one moment. A key that does not exist is exit 4; the others are printed all the same.",
		Args:        args("CELL KEY...", 2, cell.TxnOpsMax+1),
		Annotations: readOnly,
		RunE: func(cmd *cobra.Command, given []string) error {
			if raw && len(given) != 2 {
				return usage(cmd.CommandPath(), "read the keys one by one", "--raw goes with one key")
			}
			return a.use(cmd.Context(), u, func(ctx context.Context, c *client.Client) error {
				id, keys := cell.ID(given[0]), given[1:]
				var txn cell.Txn
				for _, key := range keys {
					txn.Then = append(txn.Then, client.Get(key))
				}
				result, err := c.Cell(id).Read(ctx, txn, u.option())
				if err != nil {
					return err
				}
				return a.showGets(cmd.CommandPath(), id, keys, result, raw)
			})
		},
	}
	u.staleFlag(cmd)
	cmd.Flags().BoolVar(&raw, "raw", false, "print the value alone, without quotes and without a newline")
	return cmd
}

// showGets prints the keys that exist, and fails when some do not.
func (a *app) showGets(op string, id cell.ID, keys []string, result cell.TxnResult, raw bool) error {
	// Results come in the order of the keys, one each: the read has no other operation.
	var found []cell.Entry
	var absent []string
	for i, r := range result.Results {
		if r.Found {
			found = append(found, r.Entry)
		} else {
			absent = append(absent, showKey(keys[i]))
		}
	}
	if raw && len(found) == 1 {
		_, err := io.WriteString(a.stdout, rawValue(found[0].Value))
		return err
	}
	if len(found) > 0 {
		if err := a.emitEntries(found, result.Revision, false); err != nil {
			return err
		}
	}
	if len(absent) == 0 {
		return nil
	}
	return &cell.Error{Op: op, Kind: cell.NotFound, Cell: id, Detail: "no such key: " + strings.Join(absent, " "),
		Hint: fmt.Sprintf("see `physalia kv scan %s`", id)}
}

// kvPut is a put under optional conditions. The else branch reads the key, so that a refusal can say what stood there, in the
// same round trip and at the same moment.
func (a *app) kvPut(u *users) *cobra.Command {
	var typ string
	var ifAbsent bool
	var ifVersion, lease uint64
	cmd := &cobra.Command{
		Use:   "put CELL KEY VALUE",
		Short: "Set a key to a value",
		Long: "Set a key to a value. The type of a value is part of it: \"42\" and 42 are different. VALUE - reads it from standard\n" +
			"input, as it is for --type string and bytes.",
		Args: args("CELL KEY VALUE", 3, 3),
		RunE: func(cmd *cobra.Command, given []string) error {
			value, err := a.readValue(cmd.CommandPath(), typ, given[2])
			if err != nil {
				return err
			}
			id, key := cell.ID(given[0]), given[1]
			// Conditions are sent only when they were asked for: a put without any always succeeds.
			txn := cell.Txn{Then: []cell.Op{client.PutLeased(key, value, cell.LeaseID(lease))}, Else: []cell.Op{client.Get(key)}}
			if ifAbsent {
				txn.If = append(txn.If, client.Absent(key))
			}
			if cmd.Flags().Changed("if-version") {
				txn.If = append(txn.If, client.Version(key, cell.Equal, ifVersion))
			}
			return a.use(cmd.Context(), u, func(ctx context.Context, c *client.Client) error {
				result, err := c.Cell(id).Txn(ctx, txn)
				if err != nil {
					return err
				}
				if !result.Succeeded {
					return conditionFailed(cmd.CommandPath(), id, txn, result)
				}
				return a.emit(map[string]any{"revision": result.Revision}, nil, [][]string{{"revision", fmt.Sprint(result.Revision)}})
			})
		},
	}
	cmd.Flags().StringVar(&typ, "type", "string", "`type` of the value: string, int, bool or bytes (hexadecimal)")
	cmd.Flags().Uint64Var(&lease, "lease", 0, "attach the key to this lease, a `number`: it is deleted with it; exit 8 when it is not held")
	cmd.Flags().BoolVar(&ifAbsent, "if-absent", false, "only if the key does not exist; otherwise exit 3")
	cmd.Flags().Uint64Var(&ifVersion, "if-version", 0, "only if the key has this version (`number` of writes, 0: absent); otherwise exit 3")
	return cmd
}

// Reading one byte more than a value may have is enough to have it refused with the right error.
//
// readValue makes the value of kv put, from the argument or from standard input, where strings and bytes are raw.
func (a *app) readValue(op, typ, text string) (cell.Value, error) {
	if text != "-" {
		return parseTyped(op, typ, text)
	}
	raw, err := io.ReadAll(io.LimitReader(a.stdin, cell.ValueBytesMax+1))
	if err != nil {
		return cell.Value{}, usage(op, "check standard input", "reading the value: %v", err)
	}
	if typ == "bytes" {
		return cell.Bytes(raw), nil // one byte beyond the bound is refused by the bound itself
	}
	if typ != "string" {
		return parseTyped(op, typ, strings.TrimSpace(string(raw)))
	}
	return cell.String(string(raw)), nil
}

// conditionFailed says which condition did not hold and, when the transaction read it, what stood there instead.
func conditionFailed(op string, id cell.ID, txn cell.Txn, result cell.TxnResult) error {
	detail := "a condition did not hold"
	if i := result.Failed; i >= 0 && i < len(txn.If) {
		detail = fmt.Sprintf("condition %d, on key %s, did not hold at revision %d", i, showKey(txn.If[i].Key), result.Revision)
		for _, r := range result.Results {
			if r.Found && r.Entry.Key == txn.If[i].Key {
				detail += fmt.Sprintf("; the key is %s, version %d, written at revision %d", r.Entry.Value, r.Entry.Version, r.Entry.ModRevision)
			}
		}
	}
	return &cell.Error{Op: op, Kind: cell.Conflict, Cell: id, Detail: detail, Hint: "read again, decide again"}
}

// kvDelete is idempotent: a script that repeats it after exit 5 or 7 ends with 0 either way, and "existed" tells whether this
// run removed the key.
func (a *app) kvDelete(u *users) *cobra.Command {
	return &cobra.Command{
		Use:   "delete CELL KEY",
		Short: "Remove a key; one that does not exist is fine",
		Args:  args("CELL KEY", 2, 2),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.use(cmd.Context(), u, func(ctx context.Context, c *client.Client) error {
				existed, err := c.Cell(cell.ID(given[0])).Delete(ctx, given[1])
				if err != nil {
					return err
				}
				return a.emit(map[string]any{"existed": existed}, nil, [][]string{{"existed", fmt.Sprint(existed)}})
			})
		},
	}
}

// kvTxn runs what openTxn has read. It prints before it fails, because the else branch is an answer, too.
func (a *app) kvTxn(u *users) *cobra.Command {
	return &cobra.Command{
		Use:   "txn CELL FILE",
		Short: "Run a transaction: conditions, then operations, else operations, atomically",
		Long: "Run a transaction. When a condition does not hold, the else operations have run and their results are printed; the\n" +
			"command then ends with exit 3, so that scripts can tell the branches apart.\n\n" + txnHelp,
		Args: args("CELL FILE", 2, 2),
		RunE: func(cmd *cobra.Command, given []string) error {
			txn, err := a.openTxn(cmd.CommandPath(), given[1])
			if err != nil {
				return err
			}
			id := cell.ID(given[0])
			return a.use(cmd.Context(), u, func(ctx context.Context, c *client.Client) error {
				result, err := c.Cell(id).Txn(ctx, txn)
				if err != nil {
					return err
				}
				if err := a.showTxn(txn, result); err != nil || result.Succeeded {
					return err
				}
				return conditionFailed(cmd.CommandPath(), id, txn, result)
			})
		},
	}
}

// openTxn reads a transaction from a file, or from standard input when the name is "-".
func (a *app) openTxn(op, name string) (cell.Txn, error) {
	if name == "-" {
		return readTxn(op, a.stdin)
	}
	f, err := os.Open(name)
	if err != nil {
		return cell.Txn{}, usage(op, "name a file, or - for standard input", "%v", err)
	}
	defer f.Close()
	return readTxn(op, f)
}

// resultDocument is the result of one operation under -o json.
type resultDocument struct {
	Op      string          `json:"op"`                // put, delete, increment, get or scan
	Found   bool            `json:"found"`             // get: the key exists; put, increment, delete: it existed before
	Entry   *entryDocument  `json:"entry,omitempty"`   // as read, written or removed
	Entries []entryDocument `json:"entries,omitempty"` // scan
	More    bool            `json:"more,omitempty"`    // scan: there are further keys
}

// showTxn prints the branch that ran, one row per key that an operation returned. Results may be missing when the answer came
// from a retry so late that the cell remembered only the fate of the transaction; then no row is invented.
func (a *app) showTxn(txn cell.Txn, result cell.TxnResult) error {
	ops, documents := txn.Branch(result.Succeeded), []resultDocument{}
	rows := [][]string{}
	// A row per key: a scan has many, an operation on an absent key has one that says so.
	for i, r := range result.Results {
		d := resultDocument{Op: opName(ops[i].Kind), Found: r.Found, More: r.More}
		switch {
		case ops[i].Kind == cell.OpScan:
			for _, e := range r.Entries {
				d.Entries = append(d.Entries, describeEntry(e))
				rows = append(rows, append([]string{d.Op}, entryRow(e)...))
			}
		case r.Entry.Key != "":
			described := describeEntry(r.Entry)
			d.Entry = &described
			rows = append(rows, append([]string{d.Op}, entryRow(r.Entry)...))
		default:
			rows = append(rows, []string{d.Op, showKey(ops[i].Key), "-", "absent", "-", "-", "-"})
		}
		documents = append(documents, d)
	}
	a.note("succeeded %v, revision %d", result.Succeeded, result.Revision)
	return a.emit(map[string]any{"succeeded": result.Succeeded, "failed": result.Failed, "revision": result.Revision, "results": documents},
		append([]string{"OP"}, entryHeader...), rows)
}

// opName is the verb of an operation, as the forms of a transaction have it.
func opName(kind cell.OpKind) string {
	for name, k := range opKinds {
		if k == kind {
			return name
		}
	}
	return fmt.Sprintf("op %d", kind)
}

// kvScan reads page by page up to its limit. The pages follow each other in time: a key that moves from an earlier to a later
// page meanwhile may be seen twice. Within one page, at most 1,024 keys, that cannot happen.
func (a *app) kvScan(u *users) *cobra.Command {
	var after string
	var limit int
	cmd := &cobra.Command{
		Use:         "scan CELL [PREFIX]",
		Short:       "Read the keys that begin with a prefix, in order; all of them without one",
		Args:        args("CELL [PREFIX]", 1, 2),
		Annotations: readOnly,
		RunE: func(cmd *cobra.Command, given []string) error {
			if limit < 1 {
				return usage(cmd.CommandPath(), "use a positive number", "--limit is %d", limit)
			}
			prefix := strings.Join(given[1:], "")
			return a.use(cmd.Context(), u, func(ctx context.Context, c *client.Client) error {
				entries, revision, more, err := scanPages(ctx, c.Cell(cell.ID(given[0])), prefix, after, limit, u.option())
				if err != nil {
					return err
				}
				if more {
					a.note("there are more keys: --after %s", showKey(entries[len(entries)-1].Key))
				}
				return a.emitEntries(entries, revision, more)
			})
		},
	}
	u.staleFlag(cmd)
	cmd.Flags().StringVar(&after, "after", "", "begin behind this `key`")
	cmd.Flags().IntVar(&limit, "limit", 100_000, "most keys to print, a `number`")
	return cmd
}

// scanPages reads up to limit keys, page by page. Each page is one moment of the cell; the revision is the last one's.
func scanPages(ctx context.Context, h *client.Cell, prefix, after string, limit int, option client.ReadOption) (entries []cell.Entry, revision cell.Revision, more bool, err error) {
	for {
		// The last page asks for what is left of the limit, so that "more" is about what was printed.
		want := uint32(min(limit-len(entries), cell.ScanLimitMax))
		page, err := h.Scan(ctx, prefix, client.ScanOptions{After: after, Limit: want, Read: option})
		if err != nil {
			return nil, 0, false, err
		}
		entries = append(entries, page.Entries...)
		if !page.More || len(entries) >= limit {
			return entries, page.Revision, page.More, nil
		}
		if len(page.Entries) == 0 {
			return nil, 0, false, errors.New("the cell says that there are more keys, and returns none")
		}
		after = page.Entries[len(page.Entries)-1].Key
	}
}
