package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// configBytesMax bounds a configuration file.
const configBytesMax = 1 << 20

// Settings come from four places. The order is the usual one: what is nearer to the call wins.
//
//	flags  >  environment  >  file named by --config  >  defaults
//
// There is no file that is read unasked, and no key that is silently ignored: a typing error in a limit or an address must
// not start a server with the default instead. The environment is the exception, because schedulers put variables of
// their own there (PHYSALIA_PORT, PHYSALIA_SERVICE_HOST).
//
// The commands are the only list of settings. Which keys a file may have is derived from their flags, so a new flag is a
// new key and a new variable without another line of code.

// settle gives every flag of a command that the command line did not set its value from the environment, else from the
// configuration file, else leaves the default. A flag --data-dir of `physalia server` is PHYSALIA_DATA_DIR in the
// environment and data_dir under [server] in the file; flags of all commands stand at the top of the file.
func (a *app) settle(cmd *cobra.Command) error {
	if name, ok := a.fromEnv("config"); ok && a.config == "" {
		a.config = name
	}
	var file map[string]any
	if a.config != "" {
		var err error
		if file, err = readConfig(a.config, cmd.Root()); err != nil {
			return err
		}
	}
	// A key of the command's own table is for this command. A key at the top is for a flag of the root, and only that: it may
	// have the name of a table that is another command's.
	table, _ := file[tomlKey(topCommand(cmd))].(map[string]any)
	var failure error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "config" || f.Name == "help" || failure != nil {
			return
		}
		key := tomlKey(f.Name)
		value, from := any(nil), ""
		if v, ok := table[key]; ok {
			value, from = v, fmt.Sprintf("key %s of [%s] in %s", key, topCommand(cmd), a.config)
		} else if v, ok := file[key]; ok && cmd.Root().PersistentFlags().Lookup(f.Name) != nil {
			value, from = v, fmt.Sprintf("key %s in %s", key, a.config)
		}
		if v, ok := a.fromEnv(f.Name); ok {
			value, from = v, envKey(f.Name)
		}
		if from != "" {
			failure = setFlag(f, value, from)
		}
	})
	return failure
}

// fromEnv looks a flag up in the environment; an empty variable counts as unset.
func (a *app) fromEnv(flag string) (string, bool) {
	v, ok := a.lookupEnv(envKey(flag))
	return v, ok && v != ""
}

// envKey and tomlKey are the names of a flag in the environment and in the file.
func envKey(flag string) string { return "PHYSALIA_" + strings.ToUpper(tomlKey(flag)) }

// tomlKey is how a flag is called in a configuration file: there, names are of one word.
func tomlKey(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

// topCommand is the noun of a command: "cell" for `physalia cell create`.
func topCommand(cmd *cobra.Command) string {
	for cmd.HasParent() && cmd.Parent().HasParent() {
		cmd = cmd.Parent()
	}
	return cmd.Name()
}

// setFlag gives a flag a value from outside the command line; from names the place for the error. It marks the flag as
// changed, as if it had stood on the command line, so that commands see no difference. A list in the file replaces a
// list flag whole; in the environment a list is written with commas, as on the command line.
func setFlag(f *pflag.Flag, value any, from string) error {
	var texts []string
	switch v := value.(type) {
	case string:
		texts = []string{v}
	case bool, int64, float64:
		texts = []string{fmt.Sprint(v)}
	case []any:
		for _, element := range v {
			s, ok := element.(string)
			if !ok {
				return usage("configuration", "write a list of strings", "%s: %v is not a string", from, element)
			}
			texts = append(texts, s)
		}
	default:
		return usage("configuration", "write a string, a number, true or false, or a list of strings", "%s: %v", from, v)
	}
	var err error
	list, isList := f.Value.(pflag.SliceValue)
	_, wasList := value.([]any)
	switch {
	case wasList && !isList:
		return usage("configuration", "write one "+f.Value.Type(), "%s: a list is not allowed", from)
	case wasList:
		err = list.Replace(texts)
	default:
		err = f.Value.Set(texts[0])
	}
	// The flag's own check speaks last; the hint is its help text.
	if err != nil {
		return usage("configuration", f.Usage, "%s: %v", from, err)
	}
	f.Changed = true
	return nil
}

// readConfig reads a TOML file strictly: a key that no command knows is an error with its line and column. It is decoded
// twice, first into a struct type that has every known key (which is how the library can be strict), then into maps. Types
// are not checked here: each flag checks its own text, and its error is as good as on the command line.
func readConfig(name string, root *cobra.Command) (map[string]any, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, usage("configuration", "name an existing file with --config or "+envKey("config"), "%v", err)
	}
	defer f.Close()
	// One byte beyond the bound is enough to know that it was exceeded.
	text, err := io.ReadAll(io.LimitReader(f, configBytesMax+1))
	if err != nil {
		return nil, usage("configuration", "check the file", "%v", err)
	}
	if len(text) > configBytesMax {
		return nil, usage("configuration", "is this the right file?", "%s is larger than %d bytes", name, configBytesMax)
	}
	// First strictly, for the keys; then again, for the values.
	shape, known := configShape(root)
	decoder := toml.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(reflect.New(shape).Interface()); err != nil {
		return nil, configError(name, err, known)
	}
	var values map[string]any
	if err := toml.Unmarshal(text, &values); err != nil {
		return nil, configError(name, err, known)
	}
	return values, nil
}

// configError reports the first thing that is wrong. The library knows the place, the commands know the candidates.
//
// configError turns what the TOML library says into a place and a suggestion.
func configError(name string, err error, known []string) error {
	var unknown *toml.StrictMissingError
	var syntax *toml.DecodeError
	switch {
	case errors.As(err, &unknown) && len(unknown.Errors) > 0:
		e := unknown.Errors[0]
		line, column := e.Position()
		key := strings.Join(e.Key(), ".")
		return usage("configuration", didYouMean(key, known, "see `physalia help <command>` for the flags, which are the keys"),
			"%s:%d:%d: unknown key %q", name, line, column, key)
	case errors.As(err, &syntax):
		line, column := syntax.Position()
		return usage("configuration", "correct the file", "%s:%d:%d: %v", name, line, column, syntax)
	}
	return usage("configuration", "correct the file", "%s: %v", name, err)
}

// configShape derives from the commands which keys a file may have: the flags of all commands at the top, and a table
// per command with its own flags and those of its subcommands. It is a struct type because the TOML library checks
// strictly against structs only.
func configShape(root *cobra.Command) (shape reflect.Type, known []string) {
	var fields []reflect.StructField
	for _, key := range flagKeys(root.PersistentFlags()) {
		fields = append(fields, shapeField(len(fields), key, reflect.TypeFor[any]()))
		known = append(known, key)
	}
	for _, command := range root.Commands() {
		keys := commandKeys(command)
		if len(keys) == 0 {
			continue
		}
		var columns []reflect.StructField
		for _, key := range keys {
			columns = append(columns, shapeField(len(columns), key, reflect.TypeFor[any]()))
			known = append(known, command.Name()+"."+key)
		}
		fields = append(fields, shapeField(len(fields), tomlKey(command.Name()), reflect.StructOf(columns)))
	}
	return reflect.StructOf(fields), known
}

// shapeField is one key of the file's shape; the names of the struct's fields mean nothing.
func shapeField(i int, key string, of reflect.Type) reflect.StructField {
	return reflect.StructField{Name: fmt.Sprintf("F%d", i), Type: of, Tag: reflect.StructTag(`toml:"` + key + `"`)}
}

// commandKeys are the keys of a command and all its subcommands, in order.
func commandKeys(cmd *cobra.Command) []string {
	keys := flagKeys(cmd.LocalFlags())
	for _, sub := range cmd.Commands() {
		keys = append(keys, commandKeys(sub)...)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// flagKeys are the keys that a set of flags gives; help is no setting, and a file cannot name another file.
func flagKeys(flags *pflag.FlagSet) (keys []string) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && f.Name != "config" {
			keys = append(keys, tomlKey(f.Name))
		}
	})
	return keys
}
