//go:build !poison

package machine

import "physalia/internal/wire"

// poison is where a build for trials falls over (poison_on.go).
func poison(*wire.Command) {}
