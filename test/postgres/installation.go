package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/sluice-cd/sluice/test/debian"
)

// installation holds the paths of one PostgreSQL installation's programs.
type installation struct{ initdb, postgres string }

// findInstallation returns the newest installation, and installs PostgreSQL if there is none and this process may.
func findInstallation(ctx context.Context) (installation, error) {
	if b, ok := newestInstalled(); ok {
		return b, nil
	}
	if err := debian.Install(ctx, "postgresql"); err != nil {
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
