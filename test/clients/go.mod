module github.com/sluice-cd/sluice/test/clients

go 1.26.0

require (
	github.com/open-feature/go-sdk v1.20.0
	github.com/open-feature/go-sdk-contrib/providers/ofrep v0.1.7
	github.com/rs/zerolog v1.35.1
	github.com/sluice-cd/sluice v0.0.0
)

require (
	github.com/mattn/go-colorable v0.1.14 // indirect
	github.com/mattn/go-isatty v0.0.24 // indirect
	go.uber.org/mock v0.6.0 // indirect
	golang.org/x/sys v0.50.0 // indirect
)

replace github.com/sluice-cd/sluice => ../..
