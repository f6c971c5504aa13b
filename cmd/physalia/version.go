package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"physalia/internal/wire"
)

// version is set by the build (-ldflags "-X main.version=..."); `go install` leaves it empty, then the module's own
// version from the build information is shown.
var version string

// buildDocument describes the binary under -o json.
type buildDocument struct {
	Version     string `json:"version"`            // tag or commit
	Commit      string `json:"commit,omitempty"`   // when built inside a repository
	Modified    bool   `json:"modified,omitempty"` // built from a changed working tree
	Go          string `json:"go"`                 // version of the compiler
	Platform    string `json:"platform"`           // operating system and architecture
	ProtocolMin uint32 `json:"protocol_min"`       // lowest protocol version that it speaks
	ProtocolMax uint32 `json:"protocol_max"`       // highest
	CommandSet  uint32 `json:"command_set"`        // newest command set that it understands
}

// describeBuild collects what is known about this binary: from the linker, else from the build information that the Go
// tool embeds. The protocol versions tell which other binaries it can talk to, which is what a rollout needs to know.
func describeBuild() buildDocument {
	// What the linker was told comes first: release builds know their tag, which the build information does not.
	d := buildDocument{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		ProtocolMin: wire.ProtocolMin, ProtocolMax: wire.ProtocolMax, CommandSet: wire.CommandSet}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return d
	}
	if d.Version == "" {
		d.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			d.Commit = s.Value
		case "vcs.modified":
			d.Modified = s.Value == "true"
		}
	}
	return d
}

// versionCommand needs no colony. Two binaries can talk when their protocol ranges overlap.
func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:         "version",
		Short:       "Show what this binary was built from, and the protocol versions it speaks",
		Args:        args("", 0, 0),
		Annotations: readOnly,
		RunE: func(*cobra.Command, []string) error {
			d := describeBuild()
			rows := [][]string{{"version", d.Version}, {"go", d.Go + " " + d.Platform},
				{"protocol", fmt.Sprintf("%d to %d", d.ProtocolMin, d.ProtocolMax)},
				{"commands", fmt.Sprintf("sets up to %d", d.CommandSet)}}
			if d.Commit != "" {
				rows = append(rows, []string{"commit", d.Commit})
			}
			return a.emit(d, nil, rows)
		},
	}
}
