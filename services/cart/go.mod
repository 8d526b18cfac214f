module coatcheck/cart

go 1.26.0
