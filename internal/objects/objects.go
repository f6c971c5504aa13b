package objects

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"physalia/cell"
)

// Store keeps values under names; the package comment says what it promises.
type Store interface {
	// Put makes data the value of name, atomically. The data is not kept.
	Put(ctx context.Context, name string, data []byte) error
	// Get returns the value of name; NotFound when it has none.
	Get(ctx context.Context, name string) ([]byte, error)
	// List returns the names that begin with prefix, sorted. A prefix need not end at a '/'.
	List(ctx context.Context, prefix string) ([]string, error)
	// Delete removes a name; to remove one that has no value is a success.
	Delete(ctx context.Context, name string) error
}

// Bounds of a Store, in bytes: what every file system and every service takes, with room for a prefix. Values are held in
// memory whole, by both sides, which is what bounds them.
const (
	NameBytesMax   = 512
	ObjectBytesMax = 64 << 20
	elementMax     = 128
)

// Open makes the store that a URL names, without asking anybody beyond making the directory:
//
//	/srv/objects, file:///srv/objects          a directory
//	s3://bucket/prefix                         the bucket's region and host by the environment (AWS_REGION)
//	s3://bucket/prefix?endpoint=http://host:9000&region=eu-1&style=path
//
// Credentials of S3 never stand in the URL: they come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, from the shared
// credentials file (AWS_SHARED_CREDENTIALS_FILE, AWS_PROFILE), or from the machine's role. They are never logged.
func Open(where string) (Store, error) {
	if filepath.IsAbs(where) {
		return openDirectory(where)
	}
	u, err := url.Parse(where)
	if err != nil {
		return nil, invalidURL("it is not a URL") // the cause would repeat what may hold a secret
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" || !filepath.IsAbs(u.Path) || u.RawQuery != "" {
			return nil, invalidURL("a file URL needs an absolute path and nothing else")
		}
		return openDirectory(filepath.FromSlash(u.Path))
	case "s3":
		return openBucket(u)
	}
	return nil, invalidURL(fmt.Sprintf("scheme %q is not known", u.Scheme))
}

func invalidURL(detail string) error {
	return &cell.Error{Op: "objects.open", Kind: cell.Invalid, Detail: detail,
		Hint: "write /absolute/directory, file:///absolute/directory or s3://bucket/prefix?endpoint=https://host"}
}

// checkName refuses what is not a name, before it can become a path.
func checkName(op, name string) error {
	if len(name) > NameBytesMax {
		return nameError(op, name, fmt.Sprintf("it has %d bytes, allowed are %d", len(name), NameBytesMax))
	}
	for element := range strings.SplitSeq(name, "/") {
		if element == "" || len(element) > elementMax || element[0] == '.' {
			return nameError(op, name, fmt.Sprintf("element %q is empty, longer than %d bytes or begins with a dot", element, elementMax))
		}
		if !plain(element) {
			return nameError(op, name, "allowed are letters, digits, '.', '_', '-', and '/' between elements")
		}
	}
	return nil
}

// checkPrefix refuses what no name begins with.
func checkPrefix(op, prefix string) error {
	whole := strings.TrimSuffix(prefix, "/")
	if whole == "" && prefix == "" {
		return nil
	}
	return checkName(op, whole)
}

// plain reports whether all bytes are ones that no file system, URL or shell gives a meaning to.
func plain(s string) bool {
	for _, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// nameError quotes a name, but not all of one that is far too long.
func nameError(op, name, detail string) error {
	if len(name) > 80 {
		name = name[:80] + "..."
	}
	return &cell.Error{Op: op, Kind: cell.Invalid, Detail: fmt.Sprintf("object name %q: %s", name, detail)}
}

func notFound(op, name string) error {
	return &cell.Error{Op: op, Kind: cell.NotFound, Detail: "no object " + name}
}

func tooLarge(op, name string, bytes int64) error {
	return &cell.Error{Op: op, Kind: cell.TooLarge, Detail: fmt.Sprintf("object %s has %d bytes, allowed are %d", name, bytes, ObjectBytesMax),
		Hint: "write it in several objects"}
}
