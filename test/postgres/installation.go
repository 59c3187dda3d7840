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

// installTimeout bounds one run of the package manager, downloads included.
const installTimeout = 10 * time.Minute

// installation holds the paths of one PostgreSQL installation's programs.
type installation struct{ initdb, postgres string }

// findInstallation returns the newest installation, and installs PostgreSQL if there is none and this process may.
func findInstallation(ctx context.Context) (installation, error) {
	if b, ok := newestInstalled(); ok {
		return b, nil
	}
	if err := installPackage(ctx); err != nil {
		return installation{}, fmt.Errorf("neither PATH nor %s has initdb and postgres, and %w\n"+
			"install PostgreSQL (apt-get install postgresql, dnf install postgresql-server, brew install postgresql) "+
			"and try again", debianFolders, err)
	}
	if b, ok := newestInstalled(); ok {
		return b, nil
	}
	return installation{}, errors.New("the package postgresql is installed, yet neither PATH nor " + debianFolders +
		" has initdb and postgres")
}

// debianFolders matches the folders of Debian's packages, which are not on PATH: one for each major version.
const debianFolders = "/usr/lib/postgresql/*/bin"

func newestInstalled() (installation, bool) {
	if initdb, err := exec.LookPath("initdb"); err == nil {
		// A link on PATH may lead to a folder with both programs.
		if real, err := filepath.EvalSymlinks(initdb); err == nil {
			if b, ok := installationIn(filepath.Dir(real)); ok {
				return b, true
			}
		}
	}
	folders, _ := filepath.Glob(debianFolders) // the pattern is valid
	slices.SortFunc(folders, func(a, b string) int { return cmp.Compare(majorVersion(b), majorVersion(a)) })
	for _, folder := range folders {
		if b, ok := installationIn(folder); ok {
			return b, true
		}
	}
	return installation{}, false
}

func installationIn(folder string) (installation, bool) {
	b := installation{initdb: filepath.Join(folder, "initdb"), postgres: filepath.Join(folder, "postgres")}
	for _, program := range []string{b.initdb, b.postgres} {
		if info, err := os.Stat(program); err != nil || info.Mode()&0o111 == 0 {
			return b, false
		}
	}
	return b, true
}

// majorVersion returns the version in a path like /usr/lib/postgresql/17/bin.
func majorVersion(folder string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(folder))) // 0, the oldest, for another name
	return n
}

// installPackage installs PostgreSQL by Debian's package manager, whose lock serializes concurrent processes.
func installPackage(ctx context.Context) error {
	apt, err := exec.LookPath("apt-get")
	if err != nil {
		return errors.New("there is no apt-get to install it with")
	}
	if os.Geteuid() != 0 {
		return errors.New("only root may install it")
	}
	ctx, cancel := context.WithTimeout(ctx, installTimeout)
	defer cancel()
	install := []string{"install", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", "postgresql"}
	if aptGet(ctx, apt, install...) == nil {
		return nil
	}
	if err := aptGet(ctx, apt, "update", "-q"); err != nil { // the package list may be old or missing
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
		return fmt.Errorf("apt-get %s: %w: %s", args[0], cmp.Or(ctx.Err(), err), lastOutput(out.String()))
	}
	return nil
}

func lastOutput(text string) string {
	const most = 2 << 10
	text = strings.TrimSpace(text)
	return text[max(0, len(text)-most):]
}
