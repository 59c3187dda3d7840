// Command platforms checks that the programs of a release compile for systems other than this one: go run
// ./tools/platforms GOOS/GOARCH... It only checks types, and of other modules only declarations, which takes a fraction
// of the time of a build.
package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/tools/go/packages"
)

func main() {
	for _, platform := range os.Args[1:] {
		if err := check(platform); err != nil {
			fmt.Fprintf(os.Stderr, "platforms: %s: %v\n", platform, err)
			os.Exit(1)
		}
	}
}

func check(platform string) error {
	system, architecture, ok := strings.Cut(platform, "/")
	if !ok {
		return errors.New("give it as GOOS/GOARCH")
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	all, err := packages.Load(&packages.Config{
		Mode: packages.LoadAllSyntax | packages.NeedModule,
		Env:  append(os.Environ(), "GOOS="+system, "GOARCH="+architecture, "CGO_ENABLED=0"),
		ParseFile: func(set *token.FileSet, name string, text []byte) (*ast.File, error) {
			file, err := parser.ParseFile(set, name, text, parser.SkipObjectResolution)
			if file != nil && !strings.HasPrefix(name, root+string(filepath.Separator)) {
				dropBodies(file)
			}
			return file, err
		},
	}, "./cmd/...")
	if err != nil {
		return err
	}
	var faults []error
	packages.Visit(all, nil, func(p *packages.Package) {
		if p.Module == nil || !p.Module.Main { // without bodies, others have imports that nothing uses
			return
		}
		for _, fault := range p.Errors {
			faults = append(faults, fault)
		}
	})
	return errors.Join(faults...)
}

// dropBodies removes what functions do.
func dropBodies(file *ast.File) {
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			f.Body = nil
		}
	}
}
