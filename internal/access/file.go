package access

import (
	"io"
	"os"
	"strings"

	"physalia/cell"
	"physalia/internal/wire"
)

// ReadToken reads the file of a token. White space around it does not count. The error is a *cell.Error of kind Invalid, and carries
// nothing of the token.
func ReadToken(name string) (string, error) {
	bad := func(err error, detail string) error {
		return &cell.Error{Op: "token", Kind: cell.Invalid, Detail: detail, Err: err, Hint: "name a file that `physalia token issue` wrote"}
	}
	file, err := os.Open(name)
	if err != nil {
		return "", bad(err, "the token cannot be read")
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, 2*wire.TokenBytesMax))
	if err != nil {
		return "", bad(err, "the token cannot be read")
	}
	token := strings.TrimSpace(string(text))
	if token == "" || len(token) > wire.TokenBytesMax || strings.ContainsAny(token, " \t\r\n") {
		return "", bad(nil, name+" holds no token")
	}
	return token, nil
}
