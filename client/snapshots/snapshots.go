// Package snapshots opens the object store that a colony's discovery keeps its snapshots in, for client.Config.Snapshots.
// It is apart from package client because it links a library for S3, which most programs have no use for.
package snapshots

import (
	"context"

	"physalia/internal/objects"
)

// Files is an object store, as client.Config.Snapshots takes it.
type Files interface {
	List(ctx context.Context, prefix string) ([]string, error)
	Get(ctx context.Context, name string) ([]byte, error)
}

// Open takes the URL that the control plane was given as --objects: a directory, or s3://bucket/prefix?endpoint=URL with
// credentials from the environment or the shared credentials file. It connects to nobody. The error is a *cell.Error of
// kind Invalid that says what to write.
func Open(url string) (Files, error) {
	return objects.Open(url)
}
