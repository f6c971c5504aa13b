package objects

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"physalia/cell"
)

// s3 starts a service in this process with one bucket and returns its URL.
func s3(t *testing.T, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "test-key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test-secret-value")
	t.Setenv("AWS_REGION", "eu-1")
	backend := s3mem.New()
	if err := backend.CreateBucket("colony"); err != nil {
		t.Fatal(err)
	}
	handler := http.Handler(gofakes3.New(backend).Server())
	if wrap != nil {
		handler = wrap(handler)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return "s3://colony/eu1/control?style=path&endpoint=" + server.URL
}

func open(t *testing.T, url string) Store {
	t.Helper()
	s, err := Open(url)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestStores runs one contract against both implementations.
func TestStores(t *testing.T) {
	for name, url := range map[string]func(t *testing.T) string{
		"directory": func(t *testing.T) string { return filepath.Join(t.TempDir(), "made", "here") },
		"file URL":  func(t *testing.T) string { return "file://" + t.TempDir() },
		"s3":        func(t *testing.T) string { return s3(t, nil) },
	} {
		t.Run(name, func(t *testing.T) { contract(t, open(t, url(t))) })
	}
}

func contract(t *testing.T, s Store) {
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Get(ctx, "a/b"); !errors.Is(err, cell.NotFound) || !strings.Contains(err.Error(), "a/b") {
		t.Errorf("get of nothing: %v", err)
	}
	if names, err := s.List(ctx, "a/"); err != nil || len(names) != 0 {
		t.Errorf("list of nothing: %v, %v", names, err)
	}
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for name, data := range map[string][]byte{"a/b": []byte("old"), "a/c-2": large, "a/c-10": {7}, "b": {0, 255}, "a.b/x_y": []byte("x")} {
		must(s.Put(ctx, name, data))
	}
	must(s.Put(ctx, "a/b", []byte("new")))
	for name, want := range map[string][]byte{"a/b": []byte("new"), "a/c-2": large, "a/c-10": {7}, "b": {0, 255}} {
		if got, err := s.Get(ctx, name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	for prefix, want := range map[string][]string{"": {"a.b/x_y", "a/b", "a/c-10", "a/c-2", "b"}, "a/": {"a/b", "a/c-10", "a/c-2"},
		"a/c": {"a/c-10", "a/c-2"}, "c": nil, "b/": nil} {
		if got, err := s.List(ctx, prefix); err != nil || !slices.Equal(got, want) {
			t.Errorf("list of %q: %v, %v", prefix, got, err)
		}
	}
	must(s.Delete(ctx, "a/b"))
	must(s.Delete(ctx, "a/b"))
	if _, err := s.Get(ctx, "a/b"); !errors.Is(err, cell.NotFound) {
		t.Errorf("get of what was deleted: %v", err)
	}
	for _, bad := range []string{"", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a b", "a\\b", "a\x00", "ä", strings.Repeat("x", 129),
		strings.Repeat("x/", 256) + "x"} {
		for what, err := range map[string]error{"put": s.Put(ctx, bad, nil), "delete": s.Delete(ctx, bad)} {
			if !errors.Is(err, cell.Invalid) {
				t.Errorf("%s %q: %v", what, bad, err)
			}
		}
		if _, err := s.Get(ctx, bad); !errors.Is(err, cell.Invalid) {
			t.Errorf("get %q: %v", bad, err)
		}
	}
	if _, err := s.List(ctx, "../"); !errors.Is(err, cell.Invalid) {
		t.Errorf("list of a way out: %v", err)
	}
	if err := s.Put(ctx, "huge", make([]byte, ObjectBytesMax+1)); !errors.Is(err, cell.TooLarge) {
		t.Errorf("too large: %v", err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Put(gone, "late", nil); !errors.Is(err, cell.Unavailable) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := s.List(gone, ""); !errors.Is(err, cell.Unavailable) {
		t.Errorf("list after the end: %v", err)
	}
}

// TestWritersOfOneName: readers see one of the values, whole, while many write it.
func TestWritersOfOneName(t *testing.T) {
	s := open(t, t.TempDir())
	value := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 10_000+i) }
	if err := s.Put(t.Context(), "x/y", value(0)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 10 {
				if err := s.Put(t.Context(), "x/y", value(i)); err != nil {
					t.Error(err)
				}
				if got, err := s.Get(t.Context(), "x/y"); err != nil || len(got) < 10_000 || !bytes.Equal(got, value(int(got[0]))) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			}
		})
	}
	wg.Wait()
	if names, err := s.List(t.Context(), ""); err != nil || !slices.Equal(names, []string{"x/y"}) {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

// TestWriterThatDied: what a writer left half written is no object, and does not harm the one that is there.
func TestWriterThatDied(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Put(t.Context(), "x", []byte("whole")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".writing-1"), []byte("ha"), 0o600); err != nil {
		t.Fatal(err)
	}
	if names, err := s.List(t.Context(), ""); err != nil || !slices.Equal(names, []string{"x"}) {
		t.Errorf("%v, %v", names, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "blocked"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "blocked", nil); !errors.Is(err, cell.Unavailable) || !strings.Contains(err.Error(), "check the directory") {
		t.Errorf("a name that is a directory: %v", err)
	}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if strings.Contains(path, ".writing-") && !strings.HasSuffix(path, ".writing-1") {
			t.Errorf("%s was left behind", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestURLs: what cannot be opened is refused with what to write instead, and no secret is repeated.
func TestURLs(t *testing.T) {
	for _, bad := range []string{"", "relative/dir", "file://host/dir", "file:relative", "file:///dir?x=1", "ftp://h/d", "s3://", "s3://b/../c",
		"s3://b/p?unknown=1", "s3://b/p?style=round", "s3://b/p?endpoint=host:9000", "s3://b/p?endpoint=http://u:hidden@h", "s3://key:hidden@b/p",
		"s3://key:hidden@b/%zz"} {
		s, err := Open(bad)
		if s != nil || !errors.Is(err, cell.Invalid) || strings.Contains(err.Error(), "hidden") || !strings.Contains(err.Error(), "(") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, good := range []string{"s3://bucket", "s3://bucket/a/b?region=x&style=host", "s3://bucket?endpoint=https://host/"} {
		if _, err := Open(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

// TestRefusedByS3: the errors say what to do and hold no secret.
func TestRefusedByS3(t *testing.T) {
	var deny sync.Map
	url := s3(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.Header.Get("Authorization"), "Credential=test-key/") {
				t.Error("a request was not signed with the key of the environment")
			}
			if code, ok := deny.Load("status"); ok {
				w.WriteHeader(code.(int))
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	s := open(t, url)
	if err := s.Put(t.Context(), "x", []byte("1")); err != nil {
		t.Fatal(err)
	}
	missing := open(t, strings.Replace(url, "s3://colony/", "s3://another/", 1))
	_, err := missing.List(t.Context(), "")
	if !errors.Is(err, cell.Refused) || !strings.Contains(err.Error(), "create the bucket") {
		t.Errorf("without a bucket: %v", err)
	}
	deny.Store("status", http.StatusForbidden)
	_, err = s.Get(t.Context(), "x")
	if !errors.Is(err, cell.Refused) || !strings.Contains(err.Error(), "check the credentials") || strings.Contains(err.Error(), "secret-value") {
		t.Errorf("denied: %v", err)
	}
}
