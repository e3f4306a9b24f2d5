"""The formats, a file for each. Importing one registers it.

=========  =====================================================================
json_text  JSON of many rows at once
xml_text   untrusted text in XML
=========  =====================================================================
"""
