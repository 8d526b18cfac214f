module coatcheck/gateway

go 1.26.0
