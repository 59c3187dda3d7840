// Command clusterdemo runs sluice demo with a real Kubernetes control plane for each cell: make demo TARGET=kubernetes.
// Its arguments are the command, sluice demo, and that command's options.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/fixtures"
	"github.com/sluice-cd/sluice/test/cluster"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		if exit := new(exec.ExitError); !errors.As(err, &exit) { // else the demo said why
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
}

func run(command []string) (err error) {
	if len(command) == 0 {
		return errors.New("clusterdemo: the command is missing: clusterdemo bin/sluice demo")
	}
	// An interrupt ends the demo by itself, and the clusters come after it.
	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cells, err := fs.ReadDir(fixtures.Workspaces(), "repository/cells")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sluice-clusterdemo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	start := time.Now()
	all, err := cluster.StartMany(interrupted, len(cells), 2)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.CloseAll(all)) }()
	for i, c := range all {
		text, err := os.ReadFile(c.Kubeconfig)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, cells[i].Name()), text, 0o600); err != nil {
			return err
		}
	}
	fmt.Printf("started %d Kubernetes control planes, one for each cell, within %s\n", len(all),
		time.Since(start).Round(time.Second))
	demo := exec.Command(command[0], append(command[1:], "--clusters", dir)...) //nolint:gosec // make says which
	demo.Env = append(os.Environ(), "PATH="+all[0].Programs()+string(os.PathListSeparator)+os.Getenv("PATH"))
	demo.Stdin, demo.Stdout, demo.Stderr = os.Stdin, os.Stdout, os.Stderr
	return demo.Run()
}
