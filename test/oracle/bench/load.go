package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing/fstest"
	"time"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/repository"
	"github.com/sluice-cd/sluice/test/figures"
)

const manyFlags = 10_000

// loadCost is the cost of one load.
type loadCost struct {
	Took time.Duration
	Peak int64 // bytes resident, at most
	Base int64 // bytes resident before
}

// measureLoads loads and compiles a repository of many flags, in processes of their own, as engine and agent do
// together.
func measureLoads(ctx context.Context) ([]figures.Row, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var times []time.Duration
	var peaks []float64
	for range rounds {
		out, err := exec.CommandContext(ctx, self, "load").Output()
		if err != nil {
			return nil, err
		}
		var l loadCost
		if err := json.Unmarshal(out, &l); err != nil {
			return nil, err
		}
		times, peaks = append(times, l.Took), append(peaks, float64(l.Peak-l.Base)/1e6)
	}
	peak := figures.Median(peaks)
	return []figures.Row{
		figures.LimitRow(fmt.Sprintf("%d flags loaded and compiled", manyFlags), figures.Median(times),
			500*time.Millisecond),
		{
			What: "  memory for it, resident at most", Got: fmt.Sprintf("%.0f MB", peak), Base: "limit 100 MB",
			Ratio: peak / 100, Limit: 1,
		},
	}, nil
}

// loadOnce is one such process.
func loadOnce(out io.Writer) error {
	files := fstest.MapFS{"sluice.yaml": {Data: []byte("apiVersion: sluice/v1\nkind: Flags\n")}}
	var b strings.Builder
	for i := range manyFlags {
		fmt.Fprintf(&b,
			"flag-%05d:\n    state: ENABLED\n    variants: {'on': true, 'off': false}\n    defaultVariant: 'off'\n    metadata: {feature: f-%d, 'off': 'off', owner: team-%d}\n"+
				"    targeting:\n      if:\n      - ends_with: [{var: email}, '@customer-%d.example.com']\n      - 'on'\n      - fractional: [['on', %d], ['off', %d]]\n",
			i, i, i%50, i, i%100, 100-i%100)
		if i%500 == 499 {
			text := "flags:\n  " +
				strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "\nflag-", "\n  flag-") + "\n"
			files[fmt.Sprintf("flags/part-%02d.yaml", i/500)] = &fstest.MapFile{Data: []byte(text)}
			b.Reset()
		}
	}
	var l loadCost
	var err error
	if l.Base, err = residentBytes("VmRSS"); err != nil {
		return err
	}
	started := time.Now()
	tree := repository.Load(nil, files)
	if tree.Invalid || len(tree.Flags) != manyFlags {
		return fmt.Errorf("%d flags: %v", len(tree.Flags), tree.Faults[:min(3, len(tree.Faults))])
	}
	bundle := flags.Bundle{
		Version: flags.BundleVersion, Channel: "dedicated", Flags: make(map[string]json.RawMessage, len(tree.Flags)),
	}
	for key, d := range tree.Flags {
		bundle.Flags[key] = d.Encode()
	}
	compiled, err := flags.Compile(&bundle)
	if err != nil {
		return err
	}
	l.Took = time.Since(started)
	if l.Peak, err = residentBytes("VmHWM"); err != nil {
		return err
	}
	f := compiled.Fold(flags.Orders{}, flags.Facts{Cell: "acme"}, started.Unix())
	if r := f.Evaluate("flag-00042", flags.Context{}, started.Unix()); r.Variant != "off" {
		return fmt.Errorf("flag-00042 is %+v", r)
	}
	return json.NewEncoder(out).Encode(l)
}

// residentBytes returns a line of /proc/self/status, in bytes.
func residentBytes(name string) (int64, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return n * 1024, err
		}
	}
	return 0, errors.New("/proc has no " + name + " of the process")
}
