// Command supply looks for known vulnerabilities in the modules of this repository, and for secrets in its history:
// go run ./tools/supply [DATABASE]. Without the address of a vulnerability database it takes the copy beside it. It
// first checks that the scanners find what is made to be found.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	folder     = "tools/supply"
	canary     = folder + "/canary"
	canaryFlaw = "GO-2021-0113"
	// Kubernetes itself, which tests run: nothing of it ships, and to analyse it takes 15 GB.
	clusterPrograms = "test/kube"
	govulncheck     = "golang.org/x/vuln/cmd/govulncheck@v1.9.0"
	gitleaks        = "github.com/zricethezav/gitleaks/v8@v8.30.1"

	maxRecord = 16 << 20 // bytes of a file of the database
)

func main() {
	database := ""
	if len(os.Args) > 1 {
		database = os.Args[1]
	}
	if err := run(database); err != nil {
		fmt.Fprintln(os.Stderr, "supply:", err)
		os.Exit(1)
	}
}

func run(database string) error {
	temp, err := os.MkdirTemp("", "supply-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	for _, tool := range []string{govulncheck, gitleaks} {
		install := exec.Command("go", "install", tool)
		install.Env = append(os.Environ(), "GOBIN="+temp, "CGO_ENABLED=0")
		if out, err := install.CombinedOutput(); err != nil {
			return fmt.Errorf("install %s: %w\n%s", tool, err, out)
		}
	}
	if database == "" {
		dir := filepath.Join(temp, "vulndb")
		if err := unpack(filepath.Join(folder, "vulndb.tar.gz"), dir); err != nil {
			return fmt.Errorf("unpack the vulnerability database: %w", err)
		}
		database = "file://" + dir
	}
	return errors.Join(
		checkVulnerabilities(filepath.Join(temp, "govulncheck"), database),
		checkSecrets(filepath.Join(temp, "gitleaks")),
	)
}

// checkVulnerabilities returns an error if our code calls something with a known vulnerability, or if the check does
// not find the canary's.
func checkVulnerabilities(tool, database string) error {
	out, found, err := scan(3, tool, "-db", database, "-C", canary, "./...")
	switch {
	case err != nil:
		return err
	case !found || !bytes.Contains(out, []byte(canaryFlaw)):
		return fmt.Errorf("the check does not find %s in %s: %s", canaryFlaw, canary, out)
	}
	listed, err := exec.Command("git", "ls-files", "go.mod", "*/go.mod").Output()
	if err != nil {
		return fmt.Errorf("list the modules: %w", err)
	}
	var all error
	for _, file := range strings.Fields(string(listed)) {
		dir := filepath.Dir(file)
		if dir == canary || dir == clusterPrograms {
			continue
		}
		fmt.Println("vulnerabilities in", dir)
		out, found, err := scan(3, tool, "-db", database, "-C", dir, "./...")
		if found {
			err = fmt.Errorf("%s calls something vulnerable:\n%s", dir, out)
		}
		all = errors.Join(all, err)
	}
	return all
}

// checkSecrets returns an error if the history has a secret, or if the check does not find one that is made up here.
func checkSecrets(tool string) error {
	made := exec.Command(tool, "stdin", "--no-banner", "--redact")
	made.Stdin = strings.NewReader("token = \"ghp_" + "k3Jx9Qv7Lw2Rt8Zb5Nc1Hd6Fy4Mg0Ps3UaEo\"\n")
	var exit *exec.ExitError
	if out, err := made.CombinedOutput(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		return fmt.Errorf("the check does not find a made-up token: %w\n%s", err, out)
	}
	fmt.Println("secrets in the history")
	out, found, err := scan(1, tool, "git", "--no-banner", "--redact", "--verbose", ".")
	if found {
		return fmt.Errorf("the history has secrets; .gitleaksignore lists what is none:\n%s", out)
	}
	return err
}

// scan runs a scanner whose exit code tells that it found something.
func scan(foundCode int, tool string, args ...string) (out []byte, found bool, err error) {
	out, err = exec.Command(tool, args...).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == foundCode {
		return out, true, nil
	}
	if err != nil {
		return out, false, fmt.Errorf("%s %s: %w\n%s", filepath.Base(tool), strings.Join(args, " "), err, out)
	}
	return out, false, nil
}

func unpack(archive, dir string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		return err
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		name, err := filepath.Localize(h.Name)
		if err != nil {
			return err
		}
		data, err := io.ReadAll(io.LimitReader(r, maxRecord))
		if err != nil {
			return err
		}
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(at, data, 0o600); err != nil {
			return err
		}
	}
}
