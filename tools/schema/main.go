// Command schema writes the JSON Schema of each kind of document in a release repository and a flags repository, from
// the Go types that the documents are decoded into: go run ./tools/schema docs/schema. A test compares docs/schema with
// its output.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/notices"
	"github.com/sluice-cd/sluice/engine/plan/audithead"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/diagnostics"
	"github.com/sluice-cd/sluice/releases/export"
	"github.com/sluice-cd/sluice/releases/infrastructure"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: schema FOLDER")
		os.Exit(2)
	}
	if err := writeSchemas(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func writeSchemas(dir string) error {
	all, err := buildSchemas()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write schemas: %w", err)
	}
	for name, content := range all {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return fmt.Errorf("write schemas: %w", err)
		}
	}
	return nil
}

// buildSchemas returns all schemas by file name.
func buildSchemas() (map[string][]byte, error) {
	all := map[string][]byte{}
	for _, kind := range []struct {
		name, where string
		schema      func(title, description string, patterns map[reflect.Type]string) ([]byte, error)
	}{
		{"pipeline", "sluice.yaml: what holds for all channels.", manifest.Schema[channels.Pipeline]},
		{"release", "releases/VERSION/release.yaml: what a release is. Immutable once merged.",
			manifest.Schema[releases.Release]},
		{"export", "releases/VERSION/export.yaml: what the vendor wishes to leave the cells that run it.",
			manifest.Schema[export.Wish]},
		{"diagnostics", "releases/VERSION/diagnostics.yaml: commands for debugging the cells that run it.",
			manifest.Schema[diagnostics.Document]},
		{"tombstone", "releases/VERSION/tombstone.yaml: what is left of a pruned release.",
			manifest.Schema[releases.Tombstone]},
		{"channel", "channels/NAME/channel.yaml: the policy of a channel.", manifest.Schema[channels.Channel]},
		{"head", "channels/NAME/head.yaml: the release that a channel runs.", manifest.Schema[channels.Head]},
		{"hold", "channels/NAME/holds/ID.yaml: stops all but a rollback.", manifest.Schema[channels.Hold]},
		{"skip", "channels/NAME/skips/SEQUENCE.yaml: opens a wave of one head without waiting for those before.",
			manifest.Schema[channels.Skip]},
		{"hotfix", "channels/NAME/hotfixes/VERSION.yaml: lets a release past upstreams, soak and windows.",
			manifest.Schema[channels.Hotfix]},
		{"approval", "channels/NAME/approvals/VERSION/PERSON.yaml: a person's approval of a release.",
			manifest.Schema[channels.ApprovalFile]},
		{"quarantine", "quarantine/VERSION.yaml: a release that channels may not take.",
			manifest.Schema[channels.Quarantine]},
		{"audit-head", "audit/head.yaml: how far the audit is. The engine writes it.",
			manifest.Schema[audithead.Head]},
		{"cell", "cells/NAME/cell.yaml: which channel, profile and values a cell has.", manifest.Schema[cells.Cell]},
		{"identity", "cells/NAME/identity.yaml: a cell's public key and epoch. The engine writes it.",
			manifest.Schema[cells.Identity]},
		{"infrastructure-record",
			"cells/NAME/infrastructure.yaml: the deadlines of a cell's infrastructure updates.",
			manifest.Schema[cells.InfrastructureRecord]},
		{"infrastructure", "infrastructure/N/infrastructure.yaml: what an infrastructure update changes.",
			manifest.Schema[infrastructure.Update]},
		{"notices", "notices.yaml: who is told what happens, and where.", manifest.Schema[notices.Subscriptions]},

		{"flags", "sluice.yaml of a flags repository: what holds for all announcements.",
			manifest.Schema[repository.Settings]},
		{"announcement", "announcements/ID.yaml: what is told, when, to whom, and which features turn on with it.",
			manifest.Schema[repository.Announcement]},
		{"override", "overrides/NAME.yaml: kills a flag, or holds an announcement. It always wins.",
			manifest.Schema[repository.Override]},
		{"flags-approval", "approvals/ID/PERSON.yaml: a person's approval of an announcement.",
			manifest.Schema[repository.Approval]},
		{"flags-head",
			"heads/CHANNEL.yaml: whose definitions a channel has of flags without an announcement. The engine writes it.", manifest.Schema[repository.Head]},
		{"record", "records/ID/CHANNEL.yaml: what was decided of an announcement. The engine writes it.",
			manifest.Schema[repository.Record]},
	} {
		content, err := kind.schema(kind.name, kind.where, map[reflect.Type]string{
			reflect.TypeFor[channels.EngineKeys]():    "^unsigned$",
			reflect.TypeFor[releases.Version]():       releases.VersionPattern,
			reflect.TypeFor[releases.Digest]():        releases.DigestPattern,
			reflect.TypeFor[repository.Duration]():    repository.DurationPattern,
			reflect.TypeFor[repository.LocalTime]():   repository.LocalTimePattern,
			reflect.TypeFor[repository.PublishTime](): repository.WhenPattern,
			reflect.TypeFor[repository.Readiness]():   repository.ReadinessPattern,
		})
		if err != nil {
			return nil, fmt.Errorf("schema of %s: %w", kind.name, err)
		}
		all[kind.name+".json"] = content
	}
	return all, nil
}
