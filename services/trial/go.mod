module coatcheck/trial

go 1.26.0
