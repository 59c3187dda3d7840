package main

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/sluice-cd/sluice/test/figures"
)

// wholeAgent is the cell whose agent is that of the whole command, for comparison.
const wholeAgent = cellCount - 1

// The most that a cell's program may take.
const (
	mostIdle = 18.0 // MB of memory
	mostDisk = 20.0 // MB, compressed as in an image
)

// measureAgent measures what the program for cells alone takes of a cell's memory and disk, beside the whole command in
// the same run.
func measureAgent(ctx context.Context, p *pipeline) ([]figures.Row, error) {
	small, err := settledMemory(ctx, p.agents[0].Process.Pid)
	if err != nil {
		return nil, err
	}
	whole, err := settledMemory(ctx, p.agents[wholeAgent].Process.Pid)
	if err != nil {
		return nil, err
	}
	disk, err := compressedSize(p.agent)
	if err != nil {
		return nil, err
	}
	wholeDisk, err := compressedSize(p.binary)
	if err != nil {
		return nil, err
	}
	row := func(what string, got, whole, most float64) figures.Row {
		return figures.Row{What: what, Got: fmt.Sprintf("%.1f MB", got),
			Base: fmt.Sprintf("sluice %.1f MB, limit %.0f MB", whole, most), Ratio: got / most, Limit: 1}
	}
	return []figures.Row{row("memory of an idle agent, by sluice-agent", small, whole, mostIdle),
		row("sluice-agent on disk, compressed", disk, wholeDisk, mostDisk)}, nil
}

// compressedSize returns the size of a file in MB, compressed as an image's layer is.
func compressedSize(name string) (float64, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // read only
	var size countingWriter
	z, err := gzip.NewWriterLevel(&size, gzip.BestCompression)
	if err != nil {
		return 0, err
	}
	if _, err := io.Copy(z, f); err != nil {
		return 0, err
	}
	if err := z.Close(); err != nil {
		return 0, err
	}
	return float64(size) / 1e6, nil
}

// countingWriter counts the bytes that are written to it.
type countingWriter int64

func (w *countingWriter) Write(b []byte) (int, error) {
	*w += countingWriter(len(b))
	return len(b), nil
}
