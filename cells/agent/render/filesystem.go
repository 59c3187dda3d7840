package render

import (
	"fmt"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// fileSystem is kustomize's own in memory, for files of any name. That one takes only letters, digits and a few signs,
// though kustomize on a disk takes all: other characters are escaped on the way in. An escaped path names the same file
// as the path itself, so paths that kustomize makes of escaped ones are right too.
type fileSystem struct{ filesys.FileSystem }

func newFileSystem() fileSystem { return fileSystem{filesys.MakeFsInMemory()} }

func (f fileSystem) WriteFile(name string, data []byte) error {
	escaped := escapePath(name)
	if escaped != name && f.FileSystem.Exists(escaped) {
		return fmt.Errorf("its name can't be told from that of another file: rename one of the two")
	}
	return f.FileSystem.WriteFile(escaped, data)
}

func (f fileSystem) ReadFile(name string) ([]byte, error) {
	return f.FileSystem.ReadFile(escapePath(name))
}
func (f fileSystem) Open(name string) (filesys.File, error) {
	return f.FileSystem.Open(escapePath(name))
}
func (f fileSystem) IsDir(name string) bool  { return f.FileSystem.IsDir(escapePath(name)) }
func (f fileSystem) Exists(name string) bool { return f.FileSystem.Exists(escapePath(name)) }
func (f fileSystem) ReadDir(name string) ([]string, error) {
	return f.FileSystem.ReadDir(escapePath(name))
}
func (f fileSystem) CleanedAbs(name string) (filesys.ConfirmedDir, string, error) {
	return f.FileSystem.CleanedAbs(escapePath(name))
}

// escapePath replaces what the file system in memory refuses in a name.
func escapePath(name string) string {
	if !strings.ContainsFunc(name, isEscaped) && !strings.Contains(name, "..") {
		return name
	}
	elements := strings.Split(name, "/")
	for i, e := range elements {
		if e == ".." {
			continue
		}
		var b strings.Builder
		for _, r := range e {
			if isEscaped(r) {
				fmt.Fprintf(&b, "_u%x_", r)
			} else {
				b.WriteRune(r)
			}
		}
		elements[i] = strings.ReplaceAll(b.String(), "..", "._u2e_")
	}
	return strings.Join(elements, "/")
}

// isEscaped reports whether no name in memory has the character.
func isEscaped(r rune) bool {
	letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	return !letter && !strings.ContainsRune("-_.:/", r)
}
