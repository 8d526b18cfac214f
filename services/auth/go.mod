module coatcheck/auth

go 1.26.0
