package postgres

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// installWithin bounds the package manager, its download included.
const installWithin = 10 * time.Minute

// binaries are the programs of one PostgreSQL installation.
type binaries struct{ initdb, postgres string }

// find gives the newest installation, and makes one where there is none and this process may.
func find(ctx context.Context) (binaries, error) {
	if b, ok := installed(); ok {
		return b, nil
	}
	if err := install(ctx); err != nil {
		return binaries{}, fmt.Errorf("neither PATH nor %s has initdb and postgres, and %w\n"+
			"install PostgreSQL (apt-get install postgresql, dnf install postgresql-server, brew install postgresql) and try again", debian, err)
	}
	if b, ok := installed(); ok {
		return b, nil
	}
	return binaries{}, errors.New("the package postgresql is installed, yet neither PATH nor " + debian + " has initdb and postgres")
}

// debian is where Debian's packages put the programs, a folder for each major version, off PATH.
const debian = "/usr/lib/postgresql/*/bin"

func installed() (binaries, bool) {
	if initdb, err := exec.LookPath("initdb"); err == nil {
		// A link on PATH may be to one program only: its neighbours are where it leads.
		if real, err := filepath.EvalSymlinks(initdb); err == nil {
			if b, ok := in(filepath.Dir(real)); ok {
				return b, true
			}
		}
	}
	folders, _ := filepath.Glob(debian) // the pattern is good
	slices.SortFunc(folders, func(a, b string) int { return cmp.Compare(major(b), major(a)) })
	for _, folder := range folders {
		if b, ok := in(folder); ok {
			return b, true
		}
	}
	return binaries{}, false
}

func in(folder string) (binaries, bool) {
	b := binaries{initdb: filepath.Join(folder, "initdb"), postgres: filepath.Join(folder, "postgres")}
	for _, program := range []string{b.initdb, b.postgres} {
		if info, err := os.Stat(program); err != nil || info.Mode()&0o111 == 0 {
			return b, false
		}
	}
	return b, true
}

// major is the version in a path like /usr/lib/postgresql/17/bin.
func major(folder string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(folder))) // another name counts as the oldest
	return n
}

// install asks Debian's package manager. Processes that do so at once wait for each other at its lock.
func install(ctx context.Context) error {
	apt, err := exec.LookPath("apt-get")
	if err != nil {
		return errors.New("there is no apt-get to install it with")
	}
	if os.Geteuid() != 0 {
		return errors.New("only root may install it")
	}
	ctx, cancel := context.WithTimeout(ctx, installWithin)
	defer cancel()
	install := []string{"install", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", "postgresql"}
	if aptGet(ctx, apt, install...) == nil {
		return nil
	}
	if err := aptGet(ctx, apt, "update", "-q"); err != nil { // the list of packages may be old, or none
		return err
	}
	return aptGet(ctx, apt, install...)
}

func aptGet(ctx context.Context, apt string, args ...string) error {
	cmd := exec.CommandContext(ctx, apt, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apt-get %s: %w: %s", args[0], cmp.Or(ctx.Err(), err), tail(out.String()))
	}
	return nil
}

// tail is the end of what a program printed.
func tail(text string) string {
	const most = 2 << 10
	text = strings.TrimSpace(text)
	return text[max(0, len(text)-most):]
}
