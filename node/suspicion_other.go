//go:build !linux

package node

import "errors"

// mapPage is not known here.
func mapPage(string) (*[3]uint64, func() error, error) {
	return nil, nil, errors.New("memory is not shared with files on this system")
}

// memoryFor is not known here.
func memoryFor(string) (string, error) {
	return "", errors.New("files in memory are not known on this system")
}
