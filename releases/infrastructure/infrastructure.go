// Package infrastructure says what an infrastructure update is: the folder infrastructure/N of a release repository,
// with its description and the CloudFormation templates that a customer executes, in order.
//
// The package is pure: it reads an fs.FS that a caller passes, and decides nothing. An update whose description has
// faults keeps its number: what can't be read is not gone (R47). What Load returns is immutable, and its functions may
// be called at once.
package infrastructure

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-cd/sluice/internal/manifest"
)

// Dir is the folder of all infrastructure updates in a release repository.
const Dir = "infrastructure"

const (
	updateFile = "infrastructure.yaml"
	// MaxNumber bounds an update's number.
	MaxNumber = 1_000_000
	maxText   = 4000 // bytes of notes
	maxList   = 32   // templates and quotas of one update
)

// Impact says what executing an update means to those who use the cell.
type Impact string

const (
	ImpactNone     Impact = "none"
	ImpactDowntime Impact = "downtime"
)

// Update is the content of infrastructure/N/infrastructure.yaml.
type Update struct {
	APIVersion string   `yaml:"apiVersion" json:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind       string   `yaml:"kind" json:"kind" required:"true" enum:"Infrastructure"`
	Number     int      `yaml:"number" json:"number" required:"true" minimum:"1" maximum:"1000000" doc:"the folder's name; whoever has a greater number has this one too"`
	Notes      string   `yaml:"notes" json:"notes" required:"true" doc:"what changes and why, for the customer who executes it"`
	Impact     Impact   `yaml:"impact" json:"impact" required:"true" enum:"none,downtime"`
	Order      []string `yaml:"order" json:"order" required:"true" doc:"names of the templates, without .yaml, in the order in which they are executed"`
	Quotas     []Quota  `yaml:"quotas" json:"quotas,omitempty" doc:"quotas of the account that it needs"`
	Link       string   `yaml:"link" json:"link,omitempty" doc:"https://… where customers find the templates and the steps"`
	Security   bool     `yaml:"security" json:"security,omitempty" doc:"cells that are overdue with this update still get hotfixes, whatever infrastructure.hotfixes in sluice.yaml says"`

	Faulty bool `yaml:"-" json:"faulty,omitempty" doc:"its description has faults: all but the number is unknown"`
}

// Quota is a service quota that an update needs.
type Quota struct {
	Service string  `yaml:"service" json:"service" required:"true" doc:"the service's code, as Service Quotas has it: ec2"`
	Code    string  `yaml:"code" json:"code" required:"true" doc:"the quota's code: L-1216C47A"`
	Name    string  `yaml:"name" json:"name" required:"true" doc:"what the quota is of, for people"`
	Least   float64 `yaml:"least" json:"least" required:"true" minimum:"0"`
}

// Folder returns the update's folder in the repository.
func (u *Update) Folder() string { return path.Join(Dir, strconv.Itoa(u.Number)) }

// Templates returns the paths of the templates, in the order in which they are executed.
func (u *Update) Templates() []string {
	files := make([]string, 0, len(u.Order))
	for _, name := range u.Order {
		files = append(files, path.Join(u.Folder(), name+".yaml"))
	}
	return files
}

// loaded is the result of Load, as the cache holds it.
type loaded struct {
	updates []Update
	faults  []manifest.Fault
}

// Load reads all updates of a repository, sorted by number. It reads no template. With a cache, a folder whose tree id
// is known is not read again, and the result may be shared.
func Load(c *manifest.Cache, fsys fs.FS) ([]Update, []manifest.Fault) {
	id := ""
	if info, err := fs.Stat(fsys, Dir); err == nil {
		id = manifest.ID(info)
	}
	l := manifest.Cached(c, Dir, id, func() (l loaded) {
		l.updates, l.faults = loadAll(fsys)
		return l
	})
	return slices.Clip(l.updates), slices.Clip(l.faults)
}

func loadAll(fsys fs.FS) (updates []Update, faults []manifest.Fault) {
	folders, err := fs.ReadDir(fsys, Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, []manifest.Fault{{File: Dir, Code: manifest.Unreadable,
			Message: fmt.Sprintf("can't be read: %v", err)}}
	}
	for _, folder := range folders {
		if !folder.IsDir() {
			faults = append(faults, manifest.UnusedEntry(Dir, folder, "an infrastructure update is a folder"))
			continue
		}
		n, err := parseNumber(folder.Name())
		if err != nil {
			faults = append(faults, manifest.Fault{File: path.Join(Dir, folder.Name()), Code: manifest.WrongName,
				Message: err.Error()})
			continue
		}
		if files, err := fs.ReadDir(fsys, path.Join(Dir, folder.Name())); err == nil && len(files) == 0 {
			continue // git has no empty folder: nothing in it is in force (R52)
		}
		u, wrong := loadUpdate(fsys, n)
		updates, faults = append(updates, u), append(faults, wrong...)
	}
	slices.SortFunc(updates, func(a, b Update) int { return cmp.Compare(a.Number, b.Number) })
	return updates, manifest.Sort(faults)
}

// parseNumber reads the number that a folder is named after: without leading zeros, so that each has one name.
func parseNumber(name string) (int, error) {
	n, err := strconv.Atoi(name)
	if err != nil || n < 1 || n > MaxNumber || strconv.Itoa(n) != name {
		return 0, fmt.Errorf("%.40q is no number of an infrastructure update: use 1 to %d, without leading zeros", name,
			MaxNumber)
	}
	return n, nil
}

func loadUpdate(fsys fs.FS, number int) (Update, []manifest.Fault) {
	unknown := Update{Number: number, Faulty: true}
	dir := unknown.Folder()
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return unknown, []manifest.Fault{{File: dir, Code: manifest.Unreadable,
			Message: fmt.Sprintf("can't be read: %v", err)}}
	}
	file := path.Join(dir, updateFile)
	u, faults := manifest.Load(nil, fsys, file, func(d *manifest.Doc[Update]) []manifest.Fault {
		return checkUpdate(d, number, entries)
	})
	if u == nil && len(faults) == 0 {
		faults = append(faults, manifest.Fault{File: file, Code: manifest.Missing,
			Message: "is missing: without it nobody knows what the update changes"})
	}
	if u == nil {
		return unknown, faults
	}
	for _, e := range entries {
		name := e.Name()
		if name != updateFile && (e.IsDir() || !slices.Contains(u.Templates(), path.Join(dir, name))) {
			faults = append(faults, manifest.UnusedEntry(dir, e, "order in infrastructure.yaml does not name it"))
		}
	}
	return *u, faults
}

func checkUpdate(d *manifest.Doc[Update], number int, entries []fs.DirEntry) (faults []manifest.Fault) {
	u := &d.Value
	fault := func(code manifest.FaultCode, at, format string, args ...any) {
		faults = append(faults, d.Fault(code, at, format, args...))
	}
	faults = d.RefuseEmpty()
	if u.Number != number {
		fault(manifest.Conflict, "number", "number is %d, but the folder's name is %d", u.Number, number)
	}
	if len(u.Notes) > maxText {
		fault(manifest.TooLarge, "notes", "notes have more than %d bytes: customers read them in a message", maxText)
	}
	if l, err := url.Parse(u.Link); u.Link != "" && (err != nil || l.Scheme != "https" || l.Host == "" ||
		len(u.Link) > maxText || strings.ContainsAny(u.Link, " \t\r\n")) {
		fault(manifest.WrongValue, "link", "link must be https://HOST/…, not %.100q", u.Link)
	}
	if len(u.Order) == 0 && d.HasField("order") {
		fault(manifest.Missing, "order", "order names no template: an update has something to execute")
	}
	if len(u.Order) > maxList || len(u.Quotas) > maxList {
		fault(manifest.TooLarge, "", "has more than %d templates or quotas", maxList)
		return faults
	}
	for i, name := range u.Order {
		at := fmt.Sprintf("order[%d]", i)
		switch {
		case slices.Contains(u.Order[:i], name):
			fault(manifest.Duplicate, at, "%.70q is there twice", name)
		case !slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
			return e.Name() == name+".yaml" && e.Type().IsRegular() && e.Name() != updateFile
		}):
			fault(manifest.UnknownReference, at, "there is no template %.70q beside this file", name+".yaml")
		}
	}
	return faults
}
