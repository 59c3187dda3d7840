package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/agent/signatures"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/channels/trust/trusttest"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/figures"
)

const (
	trustReleases = 50
	trustPulls    = 60
	trustTar      = 1200 << 10 // bytes: a release of 30 files
	trustFleet    = 10_000
)

// servedTrust is what a control plane serves of signed releases: its answers to a cell that pulls again and again.
type servedTrust struct {
	root      releases.Digest
	newest    trust.Release
	published *trust.Published
	answers   [][]byte
}

func serveTrust(channel string, now time.Time) (s servedTrust, err error) {
	var listed []trust.Release
	for i := range trustReleases {
		v, err := releases.ParseVersion(fmt.Sprintf("1.%d.0", i))
		if err != nil {
			return s, err
		}
		listed = append(listed, trust.Release{Version: v, Digest: releases.DigestBytes([]byte(v.String())),
			Length: trustTar, Channels: []string{channel}})
	}
	l, err := trusttest.Ledger(now, []string{channel}, listed...)
	if err != nil {
		return s, err
	}
	s.root, s.newest = l.Root().Digest, listed[len(listed)-1]
	heads, err := trusttest.SignedHeads(l, now, s.newest.Version, channel)
	if err != nil {
		return s, err
	}
	s.answers = make([][]byte, trustPulls)
	var last *trust.Served
	for i := range s.answers { // each pull meets a newer timestamp
		served, err := l.SignServed(heads, last, now, trusttest.Signer("engine"))
		if err != nil {
			return s, err
		}
		last, s.published = served, &trust.Published{Ledger: l, Heads: heads, Served: served}
		have := int64(1)
		if i == 0 {
			have = 0
		}
		if s.answers[i], err = json.Marshal(s.published.Bundle(channel, have, "")); err != nil {
			return s, err
		}
	}
	return s, nil
}

// measureProof measures a pull without the disk.
func measureProof(served servedTrust, kept trust.State, channel string, now time.Time) ([]time.Duration, error) {
	var known trust.Verifier
	state := trust.State{Root: kept.Root}
	return figures.TimeRuns(trustPulls, func(i int) error {
		var b trust.Bundle
		err := json.Unmarshal(served.answers[i], &b)
		if err == nil {
			_, state, err = known.Verify(state, b, channel, now)
		}
		return err
	})
}

// measureTrustMemory returns by how many MB the heap of an agent grows that verifies: the files as they are kept, and
// what the last verification remembers of them.
func measureTrustMemory(served servedTrust, a *cells.Assignment, dir string, now time.Time) (float64, error) {
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / 1e6
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return 0, err
	}
	before := heap()
	k, _, err := signatures.Open(signatures.Options{Dir: dir, Root: served.root})
	if err != nil {
		return 0, err
	}
	for _, answer := range served.answers[:2] {
		var b trust.Bundle
		if err := json.Unmarshal(answer, &b); err != nil {
			return 0, err
		}
		if err := k.Admit(a, "", b, now); err != nil {
			return 0, err
		}
	}
	grown := heap() - before
	runtime.KeepAlive(k)
	return grown, nil
}

// measureTrust measures what signed releases cost: a cell's pull, from the answer of the control plane until what was
// verified is durable, beside a bare hash of the same release; and the control plane's work for a fleet that asks every
// hour.
func measureTrust(_ context.Context, dir string) ([]figures.Row, error) {
	const channel = "dedicated"
	now := time.Now()
	served, err := serveTrust(channel, now)
	if err != nil {
		return nil, err
	}
	k, _, err := signatures.Open(signatures.Options{Dir: dir, Root: served.root})
	if err != nil {
		return nil, fmt.Errorf("in %s: %w", filepath.Base(dir), err)
	}
	tar := make([]byte, trustTar)
	a := &cells.Assignment{Channel: channel, Sequence: 1, Release: served.newest.Version.String(),
		Digest: served.newest.Digest}
	hash, err := figures.TimeRuns(trustPulls, func(int) error {
		sha256.Sum256(tar)
		return nil
	})
	if err != nil {
		return nil, err
	}
	pull, err := figures.TimeRuns(trustPulls, func(i int) error {
		var b trust.Bundle
		if err := json.Unmarshal(served.answers[i], &b); err != nil {
			return err
		}
		return k.Admit(a, "", b, now)
	})
	if err != nil {
		return nil, err
	}
	proof, err := measureProof(served, k.Kept().State, channel, now)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(k.Kept())
	if err != nil {
		return nil, err
	}
	write, err := figures.TimeRuns(trustPulls, func(int) error {
		return disk.WriteChecksummed(filepath.Join(dir, "copy.json"), text)
	})
	if err != nil {
		return nil, err
	}
	answer, err := figures.TimeRuns(1000, func(int) error {
		_, err := json.Marshal(served.published.Bundle(channel, 1, ""))
		return err
	})
	if err != nil {
		return nil, err
	}
	memory, err := measureTrustMemory(served, a, filepath.Join(dir, "memory"), now)
	if err != nil {
		return nil, err
	}
	share := float64(figures.Median(answer)) * trustFleet / float64(time.Hour)
	return []figures.Row{
		figures.TimeRow("a pull: 50 signed releases verified, and kept in two copies", figures.Median(pull),
			"SHA-256 of 1.2 MB", figures.Median(hash), 3),
		figures.TimeRow("of it the proof, without the disk", figures.Median(proof), "SHA-256 of 1.2 MB",
			figures.Median(hash), 3),
		figures.NoteRow("of it a durable copy, of two", figures.Time(figures.Median(write)), ""),
		{What: "memory of an agent that verifies, beside one that does not", Got: fmt.Sprintf("%.2f MB", memory),
			Base: "limit 3 MB", Ratio: memory / 3, Limit: 1},
		{What: "10,000 cells ask for the signers' files every hour", Got: fmt.Sprintf("%.2f %%", 100*share),
			Base: "of a core", Ratio: share, Limit: 0.02},
		figures.NoteRow("one answer", fmt.Sprintf("%.1f KB", float64(len(served.answers[1]))/1000), ""),
	}, nil
}
