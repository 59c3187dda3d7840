module github.com/sluice-cd/sluice/test/aws

go 1.26.0

require github.com/sluice-cd/sluice v0.0.0

require go.yaml.in/yaml/v3 v3.0.6 // indirect

replace github.com/sluice-cd/sluice => ../..
