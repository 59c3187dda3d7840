package ownercmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cells/agent/signatures"
	"github.com/sluice-cd/sluice/cells/owner"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/releases"
)

// proof is the output of sluice cell verify.
type proof struct {
	Root    releases.Digest  `json:"root"`              // of trust, as it was pinned
	RootNow releases.Digest  `json:"rootNow,omitempty"` // from which the proof begins; empty: none was verified
	Channel string           `json:"channel,omitempty"`
	Files   []provenFile     `json:"files"`
	Running *owner.Candidate `json:"running,omitempty"`
	Passed  time.Time        `json:"passed,omitzero"` // when the agent verified what runs
	Bytes   bool             `json:"bytes"`           // of what runs are here, and have the digest
	Newest  time.Time        `json:"newest,omitzero"` // when the agent verified anything last
	Until   time.Time        `json:"until,omitzero"`  // the first of the files of then expires
	Fault   string           `json:"fault,omitempty"` // why what runs is not proven; empty: it is
}

type provenFile struct {
	Role       string          `json:"role"`
	Version    int64           `json:"version"`
	Digest     releases.Digest `json:"digest"`
	Expires    time.Time       `json:"expires"`
	Signatures []trust.Quorum  `json:"signatures"`

	words string
}

func cellVerifyVerb(a *cli.App) *cobra.Command {
	cmd := &cobra.Command{
		Use: "verify", Short: "Prove, without asking anybody, who signed what this cell runs",
		Args: cli.ArgumentCount(0, 0, ""),
		Long: `Verifies the signers' signatures from the newest root in the agent's folder to the release that runs, and
compares the release's bytes there with what was signed. Compare the newest root's digest with the one
that the release signers publish: that it follows from the root that was pinned is the agent's word. It
ends with 1 unless what runs is proven.`,
		Example: `  sluice cell verify --state /var/lib/sluice`,
	}
	folder := findStateFolder(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		state, err := folder()
		if err != nil {
			return err
		}
		kept, err := signatures.Load(state)
		if err != nil {
			return fmt.Errorf("cell verify: %w", err)
		}
		if kept == nil {
			return cli.Fail(errors.New("cell verify: unsigned: this cell has no root of trust, so whoever runs the control "+
				"plane decides what it runs"), "start its agent with --trust-root and the digest that sluice trust status shows")
		}
		offered, err := agent.LoadOffer(state)
		if err != nil {
			return fmt.Errorf("cell verify: %w", err)
		}
		p, err := prove(cmd.Context(), kept, offered, agent.KeptReleases{StateDir: state})
		if err != nil {
			return fmt.Errorf("cell verify: %w", err)
		}
		if err := a.PrintResult(p, func() { printProof(a, p) }); err != nil || p.Fault == "" {
			return err
		}
		return cli.Fail(fmt.Errorf("cell verify: %s", p.Fault), "the agent's log and sluice why say what it refused")
	}
	return cmd
}

// prove verifies what a cell's folder has. What it finds wrong about the release is in the proof.
func prove(ctx context.Context, kept *signatures.Kept, o agent.Offer, store agent.KeptReleases) (proof, error) {
	p := proof{Root: kept.Pin, Channel: kept.Channel, Newest: kept.Verified, Until: kept.Until, Files: []provenFile{}}
	if kept.State.Root == nil {
		p.Fault = "the agent has not verified anything yet"
		return p, nil
	}
	p.RootNow = releases.DigestBytes(kept.State.Root)
	files, err := kept.State.Files(kept.Channel)
	if err != nil {
		return p, err
	}
	for _, f := range files {
		p.Files = append(p.Files, provenFile{f.Role, f.Version, f.Digest, f.Expires, f.Quorums, f.Signatures()})
	}
	r := o.Running
	if r == nil {
		p.Fault = "nothing runs here yet"
		return p, nil
	}
	p.Running = &owner.Candidate{Release: r.Release, Digest: r.Digest, Channel: r.Channel}
	i := slices.IndexFunc(kept.Passed, func(d signatures.Passed) bool {
		return d.Release == r.Release && d.Digest == r.Digest && d.Channel == kept.Channel
	})
	if i < 0 {
		p.Fault = r.Release + " runs, and the agent never verified it: it ran before the root of trust was pinned"
		return p, nil
	}
	p.Passed = kept.Passed[i].At
	if p.Bytes, err = proveRelease(ctx, kept, r.Release, r.Digest, p.Passed, store); err != nil {
		p.Fault = err.Error()
	}
	return p, nil
}

// proveRelease returns why a release is not proven, by the files of the folder at the instant at which it passed.
// compared: its bytes are there, too. Once it was rendered, the agent may keep the manifests alone.
func proveRelease(ctx context.Context, kept *signatures.Kept, release string, digest releases.Digest, at time.Time,
	store agent.KeptReleases) (compared bool, err error) {

	v, err := releases.ParseVersion(release)
	if err == nil {
		err = kept.State.Prove(kept.Channel, v, digest, at)
	}
	if err != nil {
		return false, err
	}
	tar, err := store.Open(ctx, digest)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", release, err)
	}
	defer func() { _ = tar.Close() }()
	got, err := releases.DigestOfTar(tar, releases.Limits{})
	if err != nil {
		return false, fmt.Errorf("read %s: %w", release, err)
	}
	if got != digest {
		return false, fmt.Errorf("the bytes of %s here have digest %s, and %s was signed", release, got, digest)
	}
	return true, nil
}

func printProof(a *cli.App, p proof) {
	if p.RootNow == "" || p.RootNow == p.Root {
		a.Stdout.PrintLine("root of trust: %s", p.Root)
	} else {
		a.Stdout.PrintLine("root of trust, now: %s", p.RootNow)
		a.Stdout.PrintLine("root of trust, as pinned: %s; that the one of now follows from it is the agent's word", p.Root)
	}
	var rows [][]cli.Field
	for _, f := range p.Files {
		rows = append(rows, []cli.Field{cli.Text(fmt.Sprintf("%s %d", f.Role, f.Version)), cli.Text(string(f.Digest)),
			cli.Text(cli.FormatTime(f.Expires)), cli.Text(f.words)})
	}
	if len(rows) > 0 {
		a.Stdout.PrintTable([]string{"FILE", "DIGEST", "EXPIRES", "SIGNATURES"}, rows)
	}
	if p.Running != nil && p.Fault == "" {
		bytes := "its bytes here have that digest"
		if !p.Bytes {
			bytes = "its bytes are not here, so that it runs is the agent's word"
		}
		a.Stdout.PrintLine("%s %s runs, and is signed for %s; verified at %s; %s", p.Running.Release, p.Running.Digest,
			p.Channel, cli.FormatTime(p.Passed), bytes)
	}
	if !p.Newest.IsZero() {
		a.Stdout.PrintLine("the agent verified last at %s, against files that are good until %s", cli.FormatTime(p.Newest),
			cli.FormatTime(p.Until))
	}
}
