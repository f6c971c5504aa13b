package objects

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"physalia/cell"
)

// bucket keeps objects in a bucket of a service that speaks S3, all under one prefix. The library repeats what a service
// was too busy for, with jitter; whoever calls bounds that by the context.
type bucket struct {
	client *minio.Client
	name   string
	prefix string // empty, or ends with '/'
}

// awsEndpoint is where buckets are when the URL names no endpoint.
const awsEndpoint = "https://s3.amazonaws.com"

// openBucket reads an s3 URL. It opens no connection.
func openBucket(u *url.URL) (Store, error) {
	if u.User != nil {
		return nil, &cell.Error{Op: "objects.open", Kind: cell.Invalid, Detail: "the URL carries credentials",
			Hint: "take them out of it, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or use the shared credentials file"}
	}
	prefix := strings.Trim(u.Path, "/")
	if u.Host == "" || prefix != "" && checkName("", prefix) != nil {
		return nil, invalidURL("an s3 URL needs a bucket, and a prefix of plain path elements or none")
	}
	if prefix != "" {
		prefix += "/"
	}
	// A parameter that is not understood is refused: "stile=path" must not silently mean the other style.
	query := u.Query()
	endpoint, region, lookup := awsEndpoint, os.Getenv("AWS_REGION"), minio.BucketLookupAuto
	for key, values := range query {
		switch value := values[0]; {
		case key == "endpoint":
			endpoint = value
		case key == "region":
			region = value
		case key == "style" && value == "path":
			lookup = minio.BucketLookupPath
		case key == "style" && value == "host":
			lookup = minio.BucketLookupDNS
		default:
			return nil, invalidURL(fmt.Sprintf("parameter %s is not known or has a value that is not", key))
		}
	}
	host, secure, err := splitEndpoint(endpoint)
	if err != nil {
		return nil, err
	}
	client, err := minio.New(host, &minio.Options{Secure: secure, Region: region, BucketLookup: lookup, Creds: credentialsOfHost()})
	if err != nil {
		return nil, &cell.Error{Op: "objects.open", Kind: cell.Invalid, Detail: "endpoint " + host, Err: err}
	}
	return &bucket{client: client, name: u.Host, prefix: prefix}, nil
}

// splitEndpoint takes https://host:port apart.
func splitEndpoint(endpoint string) (host string, secure bool, err error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.Scheme != "http" && u.Scheme != "https" {
		return "", false, invalidURL("the endpoint is not http://host:port or https://host:port")
	}
	return u.Host, u.Scheme == "https", nil
}

// credentialsOfHost looks where everybody keeps them, in the usual order; the last is the machine's role.
func credentialsOfHost() *credentials.Credentials {
	return credentials.NewChainCredentials([]credentials.Provider{
		&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
	})
}

// failed turns what the service said into an error of ours. Credentials are in neither: the library's errors hold the
// service's code and message, and the names.
func (b *bucket) failed(op, name string, err error) error {
	r := minio.ToErrorResponse(err)
	e := &cell.Error{Op: op, Kind: cell.Unavailable, Detail: fmt.Sprintf("object %s of bucket %s", b.prefix+name, b.name), Err: err,
		Hint: "check the endpoint, the network and the service"}
	switch {
	case r.Code == "NoSuchKey":
		return notFound(op, b.prefix+name)
	case r.Code == "NoSuchBucket":
		e.Kind, e.Hint = cell.Refused, "create the bucket, or correct the URL"
	case r.StatusCode == http.StatusForbidden || r.StatusCode == http.StatusUnauthorized:
		e.Kind, e.Hint = cell.Refused, "check the credentials and what the bucket's policy allows them"
	}
	return e
}

// Put implements Store. S3 replaces an object whole or not at all.
func (b *bucket) Put(ctx context.Context, name string, data []byte) error {
	const op = "objects.put"
	if err := checkName(op, name); err != nil {
		return err
	}
	if len(data) > ObjectBytesMax {
		return tooLarge(op, name, int64(len(data)))
	}
	// In one request whatever its size: a multipart upload that is cut short leaves parts behind that somebody pays for.
	_, err := b.client.PutObject(ctx, b.name, b.prefix+name, bytes.NewReader(data), int64(len(data)),
		minio.PutObjectOptions{ContentType: "application/octet-stream", DisableMultipart: true})
	if err != nil {
		return b.failed(op, name, err)
	}
	return nil
}

// Get implements Store.
func (b *bucket) Get(ctx context.Context, name string) ([]byte, error) {
	const op = "objects.get"
	if err := checkName(op, name); err != nil {
		return nil, err
	}
	object, err := b.client.GetObject(ctx, b.name, b.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, b.failed(op, name, err)
	}
	// The request is sent by the first read, so this is where a missing object shows. Whatever the service claims to hold, no
	// more than the bound is taken into memory.
	data, err := io.ReadAll(io.LimitReader(object, ObjectBytesMax+1))
	closing := object.Close()
	switch {
	case err != nil:
		return nil, b.failed(op, name, err)
	case closing != nil:
		return nil, b.failed(op, name, closing)
	case len(data) > ObjectBytesMax:
		return nil, tooLarge(op, name, int64(len(data)))
	}
	return data, nil
}

// List implements Store.
func (b *bucket) List(ctx context.Context, prefix string) ([]string, error) {
	const op = "objects.list"
	if err := checkPrefix(op, prefix); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the listing when an error does
	var names []string
	for object := range b.client.ListObjects(ctx, b.name, minio.ListObjectsOptions{Prefix: b.prefix + prefix, Recursive: true}) {
		if object.Err != nil {
			return nil, b.failed(op, prefix, object.Err)
		}
		if name := strings.TrimPrefix(object.Key, b.prefix); checkName(op, name) == nil { // else it is not ours
			names = append(names, name)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, b.failed(op, prefix, err) // a listing that was cut short
	}
	slices.Sort(names)
	return names, nil
}

// Delete implements Store.
func (b *bucket) Delete(ctx context.Context, name string) error {
	const op = "objects.delete"
	if err := checkName(op, name); err != nil {
		return err
	}
	if err := b.client.RemoveObject(ctx, b.name, b.prefix+name, minio.RemoveObjectOptions{}); err != nil {
		err = b.failed(op, name, err)
		if cell.KindOf(err) != cell.NotFound {
			return err
		}
	}
	return nil
}

// String names the store for people.
func (b *bucket) String() string { return fmt.Sprintf("bucket %s/%s", b.name, b.prefix) }
