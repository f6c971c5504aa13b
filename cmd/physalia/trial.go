package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"physalia/cmd/physalia/colony"
)

// trial is what a command has in common with others that measure a colony of real processes: a directory of its own, this binary, the
// children's complaints beside an error, and the directory gone in the end unless it is to be kept. measure runs the colony; show tells
// what came of it, and is not asked if that failed.
func trial(cmd *cobra.Command, keep string, spec *colony.Spec, measure, show func() error) error {
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this binary: %w", err)
	}
	dir, forget, err := trialDir(cmd.CommandPath(), keep)
	if err != nil {
		return err
	}
	spec.Binary, spec.Dir = binary, dir
	if err := measure(); err != nil {
		return errors.Join(logsOf(err, dir), forget())
	}
	return errors.Join(show(), forget())
}
