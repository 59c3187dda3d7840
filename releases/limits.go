package releases

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// Limits bound what a release may hold. A zero field means the default, in brackets.
type Limits struct {
	Files      int   // number of files (10,000)
	FileBytes  int64 // size of one file in bytes (16 MiB)
	TotalBytes int64 // size of all files in bytes (64 MiB)
	Depth      int   // folders around a file, itself included (32)
	PathBytes  int   // length of a path in bytes (512)
}

func (l Limits) orDefault() Limits {
	if l.Files == 0 {
		l.Files = 10_000
	}
	if l.FileBytes == 0 {
		l.FileBytes = 16 << 20
	}
	if l.TotalBytes == 0 {
		l.TotalBytes = 64 << 20
	}
	if l.Depth == 0 {
		l.Depth = 32
	}
	if l.PathBytes == 0 {
		l.PathBytes = 512
	}
	return l
}

// guard holds the files of one release against its limits, and their names against each other. It needs
// the names in any order, each once.
type guard struct {
	limits Limits
	files  int
	total  int64
	names  map[string]named // by the form in which file systems without case or Unicode forms see them
	folder string           // the folder that was claimed last
	over   bool             // the release as a whole is beyond its limits: no use to go on
}

type named struct {
	name   string
	folder bool
}

func newGuard(l Limits) *guard { return &guard{limits: l.orDefault(), names: map[string]named{}} }

// tooLarge is what a guard says about its limits; the rest is about names.
type tooLarge struct{ error }

// codeOf gives the class of what a guard says.
func codeOf(err error) manifest.FaultCode {
	if errors.As(err, new(tooLarge)) {
		return manifest.TooLarge
	}
	return manifest.WrongName
}

// admit says why a file with that path and size can't be part of the release (R23, faults 28 and 31).
func (g *guard) admit(name string, size int64) error {
	if err := g.form(name); err != nil {
		return err
	}
	if g.files >= g.limits.Files {
		g.over = true
		return tooLarge{fmt.Errorf("the release has more than %d files", g.limits.Files)}
	}
	if size < 0 || size > g.limits.FileBytes {
		return tooLarge{fmt.Errorf("it is larger than %d bytes", g.limits.FileBytes)}
	}
	if g.total+size > g.limits.TotalBytes {
		g.over = true
		return tooLarge{fmt.Errorf("the release is larger than %d bytes", g.limits.TotalBytes)}
	}
	if dir := path.Dir(name); dir != g.folder {
		for i := range len(name) {
			if name[i] == '/' {
				if err := g.claim(name[:i], true); err != nil {
					return err
				}
			}
		}
		g.folder = dir
	}
	if err := g.claim(name, false); err != nil {
		return err
	}
	g.files++
	g.total += size
	return nil
}

// form says what is wrong with a path by itself.
func (g *guard) form(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the name is empty")
	case len(name) > g.limits.PathBytes:
		return tooLarge{fmt.Errorf("the path is longer than %d bytes", g.limits.PathBytes)}
	case !utf8.ValidString(name):
		return fmt.Errorf("the name is not valid UTF-8")
	case name[0] == '/':
		return fmt.Errorf("the path is absolute")
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }):
		return fmt.Errorf("the name has a backslash or a control character")
	}
	depth := 0
	for element := range strings.SplitSeq(name, "/") {
		depth++
		switch {
		case element == "" || element == ".":
			return fmt.Errorf("the path is not in its shortest form")
		case element == "..":
			return fmt.Errorf("the path leads out of the release")
		case strings.EqualFold(element, ".git"):
			return fmt.Errorf("a release can't have anything named .git: git would not keep it")
		case strings.EqualFold(element, ".gitattributes"):
			return fmt.Errorf("a release can't have a .gitattributes: it could change the bytes on their way through git")
		}
	}
	if depth > g.limits.Depth {
		return tooLarge{fmt.Errorf("it is more than %d folders deep", g.limits.Depth)}
	}
	return nil
}

// claim takes a name. Two names that some file systems can't tell apart are refused: a clone there would lose one.
func (g *guard) claim(name string, folder bool) error {
	key := folded(name)
	old, ok := g.names[key]
	switch {
	case !ok:
		g.names[key] = named{name, folder}
	case old.name != name:
		return fmt.Errorf("the name differs from %s only by case or Unicode form", old.name)
	case !old.folder && !folder:
		return fmt.Errorf("it is there twice")
	case old.folder != folder:
		return fmt.Errorf("it is both a file and a folder")
	}
	return nil
}

func folded(name string) string {
	for i := range len(name) {
		if name[i] >= utf8.RuneSelf {
			return norm.NFC.String(cases.Fold().String(norm.NFC.String(name)))
		}
	}
	return strings.ToLower(name)
}
