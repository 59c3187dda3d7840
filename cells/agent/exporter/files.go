package exporter

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/telemetry"
	"github.com/sluice-cd/sluice/releases/export"
)

const (
	heldEnding   = ".jsonl"
	sealedEnding = ".jsonl.zst"
	goneEnding   = ".gone" // the owner removed the file, and the gap is not told of yet

	positionFile = "state.json"
	wishFile     = "wish.json"
	agreedFile   = "agreed.json"

	collectedFile = "collected.json"

	nameLayout = "20060102T150405Z"

	maxFile   = 16 << 20 // bytes of lines
	maxRecord = 64 << 10 // bytes of state.json
)

// Budget of what waits, after which the oldest half of it gives way.
const (
	MaxWaiting = 64 << 20 // bytes
	MaxAge     = 72 * time.Hour
)

// File is what waits to be sent of one minute.
type File struct {
	Name string    `json:"name"`
	At   time.Time `json:"at"` // end of the minute
	Size int64     `json:"size"`
	Held bool      `json:"held"` // it can't be sent yet
	// It was being sent, and no answer came: it may be at the control plane.
	MayHaveLeft bool `json:"mayHaveLeft,omitempty"`

	gone bool // only its gap is left
}

// state returns how far a file is: it is held, sealed, gone.
func (f File) state() int {
	switch {
	case f.gone:
		return 2
	case f.Held:
		return 0
	}
	return 1
}

// FolderName is the folder of exports, in a state folder.
const FolderName = "export"

// folder is that folder of one agent.
type folder string

func folderOf(stateDir string) folder { return folder(filepath.Join(stateDir, FolderName)) }

func (f folder) path(name string) string { return filepath.Join(string(f), name) }

// files returns what waits, the oldest first.
func (f folder) files() ([]File, error) {
	entries, err := os.ReadDir(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what waits to be exported: %w", err)
	}
	var all []File
	for _, e := range entries {
		name, ending, ok := strings.Cut(e.Name(), ".")
		at, err := time.Parse(nameLayout, name)
		info, gone := fs.FileInfo(nil), error(nil)
		if ok && err == nil {
			info, gone = e.Info()
		}
		ending = "." + ending
		known := ending == heldEnding || ending == sealedEnding || ending == goneEnding
		if !ok || err != nil || gone != nil || !known {
			continue
		}
		all = append(all, File{Name: name, At: at, Size: info.Size(), Held: ending == heldEnding,
			gone: ending == goneEnding})
	}
	// A crash while a file was sealed, or removed, leaves both: the later state counts.
	slices.SortFunc(all, func(a, b File) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(b.state(), a.state()))
	})
	return slices.CompactFunc(all, func(a, b File) bool { return a.Name == b.Name }), nil
}

func (f folder) nameOf(file File) string {
	switch {
	case file.gone:
		return f.path(file.Name + goneEnding)
	case file.Held:
		return f.path(file.Name + heldEnding)
	}
	return f.path(file.Name + sealedEnding)
}

// keep stores the lines of the minute that ended at now, and returns how many there was no room for.
func (f folder) keep(lines []telemetry.Line, now time.Time) (left int, err error) {
	var text bytes.Buffer
	var line []byte
	for _, l := range lines {
		line, err = l.Append(line[:0])
		if err != nil || len(line) > telemetry.MaxLine || text.Len()+len(line) >= maxFile {
			left++
			continue
		}
		text.Write(line)
		text.WriteByte('\n')
	}
	// If the clock was set back, the name may be taken.
	for at := now.UTC(); ; at = at.Add(time.Second) {
		name := f.path(at.Format(nameLayout))
		if exists(name+heldEnding) || exists(name+sealedEnding) || exists(name+goneEnding) {
			continue
		}
		return left, disk.ReplaceFile(name+heldEnding, text.Bytes())
	}
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// seal compresses a held file. It can be sent then.
func (f folder) seal(file File) error {
	text, err := disk.ReadLimited(f.nameOf(file), maxFile)
	if errors.Is(err, fs.ErrNotExist) { // the owner removed it meanwhile
		return nil
	}
	if err != nil {
		return err
	}
	packed, err := compress(text)
	if err != nil {
		return err
	}
	if err := disk.ReplaceFile(f.path(file.Name+sealedEnding), packed); err != nil {
		return err
	}
	return remove(f.path(file.Name + heldEnding))
}

// read returns a file's lines.
func (f folder) read(file File) ([]byte, error) {
	text, err := disk.ReadLimited(f.nameOf(file), maxFile)
	if err != nil || file.Held || file.gone {
		return text, err
	}
	return decompress(text)
}

// drop removes what waits, and leaves its gap to be told of.
func (f folder) drop(file File) error {
	if file.gone {
		return nil
	}
	if err := os.WriteFile(f.path(file.Name+goneEnding), nil, 0o600); err != nil {
		return err
	}
	return errors.Join(remove(f.path(file.Name+heldEnding)), remove(f.path(file.Name+sealedEnding)))
}

// forget removes a file of which nothing is left to be told.
func (f folder) forget(file File) error {
	return errors.Join(remove(f.path(file.Name+heldEnding)), remove(f.path(file.Name+sealedEnding)),
		remove(f.path(file.Name+goneEnding)))
}

func remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func compress(text []byte) ([]byte, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	return encoder.EncodeAll(text, nil), encoder.Close()
}

func decompress(packed []byte) ([]byte, error) {
	decoder, err := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	text, err := io.ReadAll(io.LimitReader(decoder, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("it unpacks to more than %d bytes", maxFile)
	}
	return text, err
}

// position is how far the control plane acknowledged, and the gap that it was not told of yet.
type position struct {
	Sequence int64            `json:"sequence"`
	Hash     string           `json:"hash,omitempty"`
	Gap      *cells.ExportGap `json:"gap,omitempty"`
	// Offered is what was sent and not acknowledged: it is sent again with the same header, so that an answer that was
	// lost is found out.
	Offered *offered `json:"offered,omitempty"`
}

type offered struct {
	File   string `json:"file"`
	Header []byte `json:"header"`
}

// widen makes the gap reach over an instant.
func (p *position) widen(at time.Time, why string) {
	if p.Gap == nil {
		p.Gap = &cells.ExportGap{From: at, To: at, Why: why}
		return
	}
	g := *p.Gap
	if at.Before(g.From) {
		g.From = at
	}
	if at.After(g.To) {
		g.To = at
	}
	p.Gap = &g
}

// loadJSON reads a JSON document of a folder; the zero value if there is none.
func loadJSON[T any](f folder, name string, limit int64) (v T, err error) {
	text, err := disk.ReadLimited(f.path(name), limit)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	return v, err
}

// saveJSON makes such a document durable.
func (f folder) saveJSON(name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return disk.ReplaceFile(f.path(name), text)
}

func (f folder) savePosition(p position) error { return f.saveJSON(positionFile, p) }

// loadKey returns the key of hashes, which is made once and never leaves the cell.
func (f folder) loadKey() ([]byte, error) {
	const length = 32
	name := f.path("key")
	key, err := disk.ReadLimited(name, length)
	if err == nil && len(key) == length {
		return key, nil
	}
	if err == nil {
		if _, err = disk.PutAside(name, time.Now()); err != nil {
			return nil, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key = make([]byte, length)
	_, _ = rand.Read(key) // never fails
	return key, disk.ReplaceFile(name, key)
}

// wished is wish.json: what the release that runs wishes for, for the owner to read.
type wished struct {
	Release string       `json:"release"`
	List    *export.List `json:"list,omitempty"` // nil: nothing
}

// Wish is what the release that runs in a cell wishes to have exported.
type Wish struct {
	Release string // empty: nothing runs, or the agent has not said yet
	List    export.List
}

// LoadWish reads what the agent of a state folder says of its release's wish.
func LoadWish(stateDir string) (Wish, error) {
	w, err := loadJSON[wished](folderOf(stateDir), wishFile, 2*export.MaxFile)
	if err != nil {
		return Wish{}, fmt.Errorf("read what the release wishes to have exported: %w", err)
	}
	if w.List == nil {
		w.List = &export.List{}
	}
	return Wish{w.Release, *w.List}, nil
}

// notRunning is why something is missing of the time before an agent started.
const notRunning = "the agent did not run"

// collected is collected.json: until when an agent collected what leaves. It is there while anything may leave.
type collected struct {
	Until time.Time `json:"until"`
	Whole bool      `json:"whole"` // the agent was stopped, and kept all that had come in
}

// List returns what waits in a state folder, the oldest first.
func List(stateDir string) ([]File, error) {
	f := folderOf(stateDir)
	offered := f.offered() // before the files, of which one may be sent meanwhile
	all, err := f.files()
	all = slices.DeleteFunc(all, func(f File) bool { return f.gone })
	markOffered(all, offered)
	return all, err
}

// offered returns the name of the file that was being sent last; empty: none. A position that can't be read names none:
// the agent puts it aside.
func (f folder) offered() string {
	if p, err := loadJSON[position](f, positionFile, maxRecord); err == nil && p.Offered != nil {
		return p.Offered.File
	}
	return ""
}

func markOffered(all []File, name string) {
	for i := range all {
		all[i].MayHaveLeft = all[i].MayHaveLeft || all[i].Name == name
	}
}

// DroppedMetric counts what was kept back. It leaves with whatever the owner agreed to.
const DroppedMetric = telemetry.DroppedMetric

// ErrNoFile means that no file of that name waits.
var ErrNoFile = errors.New("no such file waits to be exported")

// Read returns the lines of a file that waits, as they will leave the cell.
func Read(stateDir, name string) ([]byte, error) {
	file, err := findFile(stateDir, name)
	if err != nil {
		return nil, err
	}
	return folderOf(stateDir).read(file)
}

// Drop removes files that wait, all of them without names, and returns them. The control plane will see the gap. One
// that is being sent is cut off within a second or two.
func Drop(stateDir string, names ...string) ([]File, error) {
	all, err := List(stateDir)
	if err != nil {
		return nil, err
	}
	if len(names) > 0 {
		waiting := all
		all = nil
		for _, name := range names {
			i := slices.IndexFunc(waiting, func(f File) bool { return f.Name == name })
			if i < 0 {
				return nil, ErrNoFile
			}
			all = append(all, waiting[i])
		}
	}
	for i, file := range all {
		if err := folderOf(stateDir).drop(file); err != nil {
			return all[:i], err
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	markOffered(all, folderOf(stateDir).offered()) // the agent may have begun to send one meanwhile
	return all, disk.SyncDir(string(folderOf(stateDir)))
}

func findFile(stateDir, name string) (File, error) {
	all, err := List(stateDir)
	if err != nil {
		return File{}, err
	}
	i := slices.IndexFunc(all, func(f File) bool { return f.Name == name })
	if i < 0 {
		return File{}, ErrNoFile
	}
	return all[i], nil
}
