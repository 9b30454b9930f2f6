module aiopool-examples

go 1.19
