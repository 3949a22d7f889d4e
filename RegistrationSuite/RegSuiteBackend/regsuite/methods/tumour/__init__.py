"""Brain tumour: a healthy template onto a patient."""
